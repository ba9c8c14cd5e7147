"""Which scopes are told of: the factory's, this thread's, those of variables, an inner trace."""

from __future__ import annotations

import contextlib
import threading

from torch import nn

import torchcreator as tc
from tests.report.chains import decisions, under
from tests.report.models import Scoped, bounded, frozen, passing, summed
from torchcreator._chain import observers
from torchcreator.report._trace import tracing


def test_creators_inside_and_around_the_factory_are_told_innermost_first():
    """Its own scopes come first, with the line that opened them; then those that were open."""
    with tc.creator_scope(summed), tc.creator_scope(passing):
        inventory = tc.inspect(Scoped)
    weight = inventory["second.weight"].decisions
    assert [str(decision) for decision in weight] == [
        "bounded: constraint None -> MaxNorm(max_value=1.0, dim=None)",
        "frozen: trainable True -> False",
        "summed: aggregation NONE -> SUM",
    ]
    assert [d.opened and d.opened.rpartition(":")[0] for d in weight] == [
        "tests/report/models.py",
        "tests/report/models.py",
        None,
    ]
    assert weight[0].opened != weight[1].opened
    assert decisions(inventory["gain"]) == []  # summed before already


def test_creators_of_one_name_are_numbered():
    """Closures of one function have one name: their scopes' lines, and nesting, tell them apart."""

    def tagged(value):
        def tagging(next_creator, **kwargs):
            tags = {**(kwargs["tags"] or {}), "seen": value}
            return next_creator(**{**kwargs, "tags": tags})

        return tagging

    def factory():
        layers = []
        for _ in range(2):
            with tc.creator_scope(tagged("a")):
                layers.append(nn.LayerNorm(2))
        with contextlib.ExitStack() as scopes:
            for value in ("b", "c"):
                scopes.enter_context(tc.creator_scope(tagged(value)))
            layers.append(nn.LayerNorm(2))
        return nn.Sequential(*layers)

    inventory = tc.inspect(factory)
    assert decisions(inventory["0.weight"]) == ["tagging: tags.seen None -> a"]
    assert decisions(inventory["1.weight"]) == ["tagging: tags.seen None -> a"]
    assert decisions(inventory["2.weight"]) == [
        "tagging (3): tags.seen None -> c",
        "tagging (2): tags.seen c -> b",
    ]


def test_one_creator_opened_twice_is_two():
    """A creator in two scopes acts twice, and each time is told."""

    def doubling(next_creator, **kwargs):
        tags = {"n": (kwargs["tags"] or {"n": 1})["n"] * 2}
        return next_creator(**{**kwargs, "tags": tags})

    with tc.creator_scope(doubling), tc.creator_scope(doubling):
        row = tc.inspect(nn.LayerNorm, 2)["weight"]
    assert decisions(row) == ["doubling (2): tags.n None -> 2", "doubling: tags.n 2 -> 4"]
    assert row.tags == {"n": 4}


def test_scopes_that_leave_modules_out_are_told_of_variables_only():
    """``modules=False`` skips a creator for stock modules, and the rest of the chain is told."""

    def factory():
        with (
            tc.creator_scope(frozen),
            tc.creator_scope(bounded, modules=False),
            tc.creator_scope(summed),
        ):
            model = nn.LayerNorm(2)
            model.gain = tc.variable([1.0])
            return model

    inventory = tc.inspect(factory)
    assert [d.creator for d in inventory["weight"].decisions] == ["summed", "frozen"]
    assert [d.creator for d in inventory["gain"].decisions] == ["summed", "bounded", "frozen"]


def test_a_creator_without_a_name_is_told_by_its_looks():
    """An object that is called has no address in its label, so that reports can be compared."""

    class Halving:
        def __call__(self, next_creator, **kwargs):
            return next_creator(**{**kwargs, "trainable": False})

    (decision,) = under(Halving())["weight"].decisions
    assert decision.creator.endswith("Halving object>")


def test_nobody_is_traced_while_nobody_inspects():
    """A scope's chain calls the creator itself; only a scope that opens in a trace is probed."""
    assert observers.tracer is None
    calls = []

    def seen(next_creator, **kwargs):
        calls.append(next_creator.__qualname__)
        return next_creator(**kwargs)

    with tc.creator_scope(seen):
        tc.variable(1.0)
        tc.inspect(nn.LayerNorm, 2)
        tc.variable(1.0)
    assert "hand_on" not in calls[0] + calls[-1]
    assert all("hand_on" in call for call in calls[1:-1])
    assert len(calls) == 4


def test_other_threads_are_left_alone():
    """A scope that another thread opens meanwhile is none of this thread's business."""
    names = []

    def seen(next_creator, **kwargs):
        names.append(next_creator.__qualname__)
        return next_creator(**kwargs)

    def elsewhere():
        with tc.creator_scope(seen):
            tc.variable(1.0)

    with tracing() as trace:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        with tc.creator_scope(seen):
            tc.variable(1.0)
    assert ["hand_on" in name for name in names] == [False, True]
    assert len(trace.journeys) == 1


def test_an_inspection_inside_a_factory_is_one_of_its_own():
    """Traces nest: the inner one ends, and the outer one goes on."""
    found = []

    def factory():
        with tc.creator_scope(frozen):
            found.append(tc.inspect(nn.LayerNorm, 3))
            return nn.LayerNorm(2)

    outer = tc.inspect(factory)
    assert decisions(outer["weight"]) == ["frozen: trainable True -> False"]
    assert decisions(found[0]["weight"]) == ["frozen: trainable True -> False"]
    assert observers.tracer is None
