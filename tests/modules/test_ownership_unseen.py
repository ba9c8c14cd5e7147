"""A tie is known where Python shows less than everything: frozen modules, traced variables."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.support.tracing import reading
from torchcreator._modules import ownership


def ones(next_creator, **kwargs):
    return next_creator(**{**kwargs, "initial_value": torch.ones(kwargs["shape"])})


class Tied(nn.Module):
    """Has its own parameters in variables, and one of another module."""

    def __init__(self, embedding):
        super().__init__()
        weight, tied = nn.Parameter(torch.zeros(2)), embedding.weight
        self.own = weight
        self.tied = tied
        self.lstm = nn.LSTM(1, 1)
        for name, p in zip("ab", [nn.Parameter(torch.zeros(1)) for _ in "ab"], strict=True):
            self.register_parameter(name, p)


def assert_ties_are_kept(embedding):
    """Assert that a tie is left as it is, and that what is made beside it is made."""
    before = embedding.weight.detach().clone()
    with tc.creator_scope(ones):
        module = Tied(embedding)
        fresh = nn.Parameter(torch.zeros(1))
        module.later = fresh
    assert module.tied is embedding.weight
    assert torch.equal(before, embedding.weight)
    made = [p for p in module.parameters() if p is not module.tied]
    assert len(made) == 8
    assert all(p.eq(1).all() for p in made)


@pytest.mark.parametrize("early", [True, False], ids=["frozen", "registered in a frozen module"])
def test_frozen_modules_hold_what_they_hold(early):
    """`gc.freeze` takes a module out of sight of the collector; its parameters are its own."""
    embedding = nn.Embedding(3, 2)
    gc.freeze()
    try:
        if not early:
            embedding.weight = nn.Parameter(torch.zeros(3, 2))
        assert_ties_are_kept(embedding)
    finally:
        gc.unfreeze()


def test_a_tracer_that_reads_variables_changes_nothing():
    """Ties and fresh parameters are told apart while every line is traced."""
    embedding = nn.Embedding(3, 2)
    before = sys.gettrace()
    sys.settrace(reading)
    try:
        assert_ties_are_kept(embedding)
    finally:
        sys.settrace(before)


def test_it_may_be_imported_under_a_tracer():
    """What was counted at import holds when the tracer is gone, and the other way round."""
    kept = []

    def keeping(frame, event, arg):
        kept.append(dict(frame.f_locals))
        return keeping

    before, fresh = sys.gettrace(), dict(ownership.FRESH)
    assert fresh.keys() == {True, False}
    ownership.FRESH.clear()
    sys.settrace(keeping)
    try:
        ownership.measure()
    finally:
        sys.settrace(before)
    assert fresh == ownership.FRESH
    assert kept
    assert_ties_are_kept(nn.Embedding(3, 2))


@pytest.mark.parametrize("frozen", [False, True], ids=["in sight", "frozen"])
def test_reading_variables_keeps_nothing_alive(frozen):
    """What a function lets go of is gone at once, though its variables were read meanwhile."""

    class Gone:
        pass

    class Kept(nn.Module):
        def __init__(self):
            super().__init__()
            local = Gone()
            self.gone = weakref.ref(local)
            for name, p in zip("a", [nn.Parameter(torch.zeros(1))], strict=True):
                self.register_parameter(name, p)
            del local
            assert self.gone() is None

    local = Gone()
    gone = weakref.ref(local)
    (gc.freeze if frozen else gc.unfreeze)()
    try:
        with tc.creator_scope(ones):
            made = Kept()
        del local
        assert gone() is None
        assert made.a.eq(1).all()
    finally:
        gc.unfreeze()


def test_what_locals_returned_is_left_alone():
    """The dictionary that a function got from ``locals()`` keeps what it had."""

    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            weight = nn.Parameter(torch.zeros(1))
            self.before = locals()
            self.weight = weight

    with tc.creator_scope(ones):
        made = Listed()
    assert made.before["weight"] is made.weight
    assert made.weight.eq(1).all()
