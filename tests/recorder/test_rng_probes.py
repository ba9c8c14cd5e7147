"""Counts are tried before they are relied on; one that is wrong is told of once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.recorder.drawing import RefusingFunctions, RefusingOperations, drawing_op, drawing_ops
from tests.recorder.test_rng_outputs import (
    CASES,
    IN_PLACE,
    LARGE,
    as_read,
    draws_of_all_kinds,
    fills,
    flat,
    is_right,
)
from torchcreator._recorder import rng_outputs, rng_probes
from torchcreator._recorder.rng_outputs import draw_of
from torchcreator._recorder.rng_probes import UnknownDrawWarning, known_draw

quietly = pytest.mark.filterwarnings("ignore:.* draws otherwise on torch")


@pytest.fixture(autouse=True)
def nothing_tried(monkeypatch):
    """Begin as a process does, on a torch that should do as is said."""
    monkeypatch.setattr(rng_probes, "READ_ON", (2, 10))
    monkeypatch.setattr(rng_probes, "_tried", {})
    monkeypatch.setattr(rng_probes, "_told", set())


def ruled(monkeypatch, name, **changes):
    """Let the table say something else of an operation."""
    rule = rng_outputs._RULES[name]

    def other(op, ref):
        draw = rule(op, ref)
        return draw._replace(**{word: change(draw) for word, change in changes.items()})

    monkeypatch.setitem(rng_outputs._RULES, name, other)


SOME = [name for name in CASES if not name.endswith(("with_gaps", "a_slice", "channels_last"))]


@pytest.mark.parametrize("name", SOME)
@quietly
def test_what_is_known_is_right(name):
    """On every torch: a count that passes its probe is the right one for all that it speaks for."""
    for draws in CASES[name]:
        known = known_draw(drawing_op(draws))
        assert known is None or is_right(known, draws)


@pytest.mark.parametrize("name", IN_PLACE)
@quietly
def test_what_is_known_is_right_for_large_ones(name):
    """A small probe speaks for large tensors, too."""
    function, dtypes = IN_PLACE[name]
    for dtype in dtypes:
        draws = fills(function, flat, LARGE, dtype)
        known = known_draw(drawing_op(draws))
        assert known is None or is_right(known, draws)


@as_read
@pytest.mark.parametrize("name", CASES)
def test_every_entry_passes_on_this_torch(name):
    """What the table knows is known for certain after a probe of each kind, without a word."""
    for draws in CASES[name]:
        op = drawing_op(draws)
        assert known_draw(op) == draw_of(op)


def test_a_kind_is_tried_once(monkeypatch):
    """Draws alike in all that may matter share one probe; each other difference has its own."""
    probed = []
    agrees = rng_probes._agrees

    def counted(op, draw):
        probed.append(draw.elements)
        return agrees(op, draw)

    monkeypatch.setattr(rng_probes, "_agrees", counted)
    for n in (16, 32, 17, 33, 3, 5):
        known_draw(drawing_op(lambda n=n: torch.randn(n)))
    assert probed == [16, 17, 3]
    known_draw(drawing_op(lambda: torch.randn(16, dtype=torch.float64)))
    known_draw(drawing_op(lambda: torch.empty(16).normal_()))
    known_draw(drawing_op(lambda: torch.empty(16, 2).t().normal_()))
    assert probed == [16, 17, 3, 16, 16, 32]


@pytest.mark.parametrize(
    "changes",
    [
        {"outputs": lambda draw: draw.outputs + 1},
        {"outputs": lambda draw: 2 * draw.outputs},
        {"serial": lambda draw: draw.elements},
        {"fill": lambda draw: torch.Tensor.normal_},
        {"numbers": lambda draw: (0.0, 2.0)},
    ],
    ids=["one more", "twice", "in pairs", "other values", "other bounds"],
)
def test_what_torch_does_otherwise_is_not_known(monkeypatch, changes):
    """A wrong rule is found out, and told of once, by the operation's name."""
    ruled(monkeypatch, "uniform_", **changes)
    op = drawing_op(lambda: torch.empty(20).uniform_())
    with pytest.warns(UnknownDrawWarning, match=r"uniform_ draws otherwise on torch 2"):
        assert known_draw(op) is None
    assert known_draw(op) is None
    assert known_draw(drawing_op(lambda: torch.empty(32).uniform_())) is None
    assert known_draw(drawing_op(lambda: torch.rand(20))) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"serial": lambda draw: draw.elements + 1},
        {"serial": lambda draw: draw.elements + draw.elements % 2},
        {"serial": lambda draw: 0, "outputs": lambda draw: 2 * draw.elements + 2},
    ],
    ids=["one more", "whole pairs", "no pairs"],
)
def test_a_value_left_over_is_part_of_the_rule(monkeypatch, changes):
    """For values made in pairs, that the second waits is tried, and that it is used next."""
    ruled(monkeypatch, "normal_", **changes)
    with pytest.warns(UnknownDrawWarning, match="normal_ draws otherwise"):
        assert known_draw(drawing_op(lambda: torch.empty(5).normal_())) is None


def test_the_rest_is_known_though_one_kind_is_not(monkeypatch):
    """A rule that is wrong for short tensors alone leaves the long ones known."""
    rule = rng_outputs._RULES["normal_"]

    def other(op, ref):
        draw = rule(op, ref)
        return draw._replace(serial=7) if draw.serial else draw

    monkeypatch.setitem(rng_outputs._RULES, "normal_", other)
    with pytest.warns(UnknownDrawWarning, match="normal_"):
        assert known_draw(drawing_op(lambda: torch.empty(5).normal_())) is None
    assert known_draw(drawing_op(lambda: torch.empty(50).normal_())) is not None


def test_on_an_older_torch_a_difference_is_no_news(monkeypatch):
    """Before the version that was read, draws are known to differ: they are not told of."""
    monkeypatch.setattr(rng_probes, "READ_ON", (3, 0))
    ruled(monkeypatch, "uniform_", outputs=lambda draw: draw.outputs + 1)
    assert known_draw(drawing_op(lambda: torch.empty(20).uniform_())) is None


@quietly
def test_the_span_of_integers_is_part_of_a_kind():
    """From some power of two on an integer takes two outputs, from which depends on the torch."""
    for bits in range(24, 34):
        for span in ((1 << bits) - 1, 1 << bits):
            draws = fills(lambda t, span=span: t.random_(-5, span - 5), flat, 50, torch.int64)
            known = known_draw(drawing_op(draws))
            assert known is None or is_right(known, draws)


def test_a_draw_that_fails_is_not_known_and_not_told_of():
    """A draw that would be an error is left to its replay, which says so."""
    op = drawing_op(lambda: torch.empty(50).normal_())

    def failing(*args, **kwargs):
        raise RuntimeError

    assert known_draw(op._replace(traits=op.traits._replace(seeded=failing))) is None
    assert known_draw(op) is not None


def test_without_a_generator_nothing_is_tried():
    """An operation that takes no generator could be tried on the default one only: it is not."""
    op = drawing_op(lambda: torch.empty(50).normal_())
    assert known_draw(op._replace(traits=op.traits._replace(seeded=None))) is None


def test_what_is_not_in_the_table_is_not_known():
    """Without a rule there is nothing to try."""
    assert known_draw(drawing_op(lambda: torch.poisson(torch.ones(5)))) is None


def test_the_default_generator_is_left_alone(monkeypatch):
    """Probes run on a generator of their own."""
    monkeypatch.setattr(rng_probes, "READ_ON", (3, 0))
    ops = drawing_ops(draws_of_all_kinds)
    before = torch.get_rng_state()
    assert any(known_draw(op) for op in ops)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "surroundings",
    [RefusingFunctions, RefusingOperations, torch.inference_mode, lambda: torch.device("meta")],
    ids=["function mode", "dispatch mode", "inference", "meta by default"],
)
def test_probes_run_under_any_mode(surroundings, monkeypatch):
    """What the caller has open sees nothing of a probe, and does not change it."""
    monkeypatch.setattr(rng_probes, "READ_ON", (3, 0))
    ops = drawing_ops(draws_of_all_kinds)
    with surroundings():
        known = [known_draw(op) for op in ops]
    monkeypatch.setattr(rng_probes, "_tried", {})
    assert known == [known_draw(op) for op in ops]


def test_a_probe_has_no_gradient():
    """A layer's initialisation needs no `no_grad` of its own."""
    op = drawing_op(lambda: nn.init.orthogonal_(nn.Parameter(torch.empty(4, 4))))
    assert known_draw(op) == draw_of(op)
