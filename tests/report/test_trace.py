"""Each creator in the chain is told apart, with what it changed and nothing else."""

from __future__ import annotations

import contextlib
import threading

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.report.models import Scoped, bounded, frozen, passing, summed
from torchcreator import _watch
from torchcreator.report._trace import tracing


def decisions(row):
    return [str(decision) for decision in row.decisions]


class Gain(nn.Module):
    """A model of one variable, called as the first one of a normalisation is."""

    def __init__(self):
        super().__init__()
        self.weight = tc.variable(nn.init.ones_, shape=(2,), name="weight")


def inside(*creators, made=lambda: nn.LayerNorm(2)):
    """Return a factory that opens scopes itself, the last one innermost."""

    def factory():
        with contextlib.ExitStack() as scopes:
            for creator in creators:
                scopes.enter_context(tc.creator_scope(creator))
            return made()

    return factory


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


@pytest.mark.parametrize("around", [True, False], ids=["around", "inside"])
def test_a_creator_that_answers_is_told(around):
    """It made the parameter itself; creators further out were not asked."""

    def answering(next_creator, **kwargs):
        return tc.default_creator(initial_value=torch.zeros(2), trainable=False)

    if around:
        inventory = _around(frozen, answering)
    else:
        inventory = tc.inspect(inside(frozen, answering, made=Gain))
    (decision,) = inventory["weight"].decisions
    assert (decision.creator, decision.answered, decision.changed) == ("answering", True, {})
    assert str(decision) == "answering: answered itself"


def test_a_creator_that_steps_in_is_told():
    """One that makes the parameter itself when the next one fails has answered, too."""

    def failing(next_creator, **kwargs):
        raise ZeroDivisionError

    def careful(next_creator, **kwargs):
        try:
            return next_creator(**{**kwargs, "aggregation": "sum"})
        except ZeroDivisionError:
            return tc.default_creator(**{**kwargs, "device": "cpu"})

    (decision,) = tc.inspect(inside(failing, careful, made=Gain))["weight"].decisions
    assert (decision.creator, decision.answered, decision.changed) == ("careful", True, {})


def test_tags_that_are_written_into_are_told():
    """A creator need not copy the tags to be told of."""

    def writing(next_creator, **kwargs):
        kwargs["tags"]["stage"] = 2
        return next_creator(**kwargs)

    def tagged():
        model = nn.Module()
        model.gain = tc.variable([1.0], tags={"stage": 1})
        return model

    row = tc.inspect(inside(writing, made=tagged))["gain"]
    assert decisions(row) == ["writing: tags.stage 1 -> 2"]


def test_what_is_changed_on_the_way_back_is_told():
    """A creator may change, or replace, what the next one returned."""

    def froze(next_creator, **kwargs):
        return next_creator(**kwargs).requires_grad_(False)

    def replaced(next_creator, **kwargs):
        return nn.Parameter(next_creator(**kwargs).detach().double())

    with tc.creator_scope(froze):
        assert decisions(tc.inspect(nn.LayerNorm, 2)["bias"]) == ["froze: trainable True -> False"]
    with tc.creator_scope(replaced):
        row = tc.inspect(nn.LayerNorm, 2)["bias"]
    assert decisions(row) == ["replaced: parameter Parameter float32 -> Parameter float64"]
    assert row.dtype == torch.float64


def test_dropped_keywords_are_told_by_what_they_become():
    """What a creator does not hand on takes its default; what is worked out is no change."""

    def dropping(next_creator, *, initial_value, name, module, **dropped):
        return next_creator(initial_value=initial_value, name=name, module=module)

    inventory = tc.inspect(
        inside(dropping, bounded, made=lambda: nn.ParameterList([nn.Parameter(torch.ones(2))]))
    )
    assert decisions(inventory["0"])[-1] == (
        "dropping: constraint MaxNorm(max_value=1.0, dim=None) -> None"
    )


def test_only_the_last_of_several_calls_counts():
    """A creator that calls on twice is told by the call whose result it could return last."""

    def twice(next_creator, **kwargs):
        next_creator(**{**kwargs, "aggregation": "mean"})
        return next_creator(**kwargs)

    for inventory in (
        tc.inspect(inside(frozen, summed, twice, made=Gain)),
        _around(frozen, summed, twice, made=Gain),
    ):
        assert decisions(inventory["weight"]) == [
            "summed: aggregation NONE -> SUM",
            "frozen: trainable True -> False",
        ]


def _around(*creators, made=lambda: nn.LayerNorm(2)):
    with contextlib.ExitStack() as scopes:
        for creator in creators:
            scopes.enter_context(tc.creator_scope(creator))
        return tc.inspect(made)


def test_variables_that_creators_make_on_the_side_do_not_mix():
    """A creator, and an initial value, may make variables of their own."""

    def helped(next_creator, **kwargs):
        if kwargs["name"] != "helper":
            tc.variable(1.0, name="helper")
            kwargs["constraint"] = "non_neg"
            kwargs["initial_value"] = lambda: tc.variable([1.0, 2.0], name="helper").detach()
        return next_creator(**kwargs)

    for inventory in (tc.inspect(inside(frozen, helped)), _around(frozen, helped)):
        assert [row.name for row in inventory] == ["weight", "bias"]
        for row in inventory:
            own, outer = decisions(row)
            assert own.startswith("helped: ")
            assert "constraint None -> NonNeg()" in own
            assert outer == "frozen: trainable True -> False"


def test_copies_of_a_prototype_have_its_decisions():
    """An encoder of torch copies a layer; the copies were decided about with it."""
    layer = nn.TransformerEncoderLayer
    inventory = tc.inspect(
        inside(
            frozen,
            made=lambda: nn.TransformerEncoder(layer(4, 1, 8), 3, enable_nested_tensor=False),
        )
    )
    assert len(inventory) == 36
    assert {tuple(decisions(row)) for row in inventory} == {("frozen: trainable True -> False",)}


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

    (decision,) = _around(Halving())["weight"].decisions
    assert decision.creator.endswith("Halving object>")


def test_nobody_is_traced_while_nobody_inspects():
    """A scope's chain calls the creator itself; only a scope that opens in a trace is probed."""
    assert _watch.tracer is None
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
    assert _watch.tracer is None
