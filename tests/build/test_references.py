"""Where a creator's own parameter takes the place of the constructor's."""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict, namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator._build import references
from torchcreator._build.build import build

pytestmark = pytest.mark.usefixtures("in_sight")
Pair = namedtuple("Pair", ["first", "second"])


class Plain:
    """An object of the user's, which is no module."""

    def __init__(self, value):
        self.value = value


# What holds the weight, and how to get at it.
HOLDERS = {
    "list": (lambda w: [1, w], lambda held: held[1]),
    "dict": (lambda w: {"w": w}, lambda held: held["w"]),
    "set": (lambda w: {w}, lambda held: next(iter(held))),
    "tuple": (lambda w: (1, w), lambda held: held[1]),
    "named tuple": (lambda w: Pair(w, 2), lambda held: held.first),
    "tuple in a tuple": (lambda w: (w, (w, 3)), lambda held: held[1][0]),
    "tuple in a list": (lambda w: [(w,)], lambda held: held[0][0]),
    "tuple in a dict": (lambda w: {0: (w,)}, lambda held: held[0][0]),
    "frozen set": (lambda w: frozenset({w}), lambda held: next(iter(held))),
    "key": (lambda w: {w: "name"}, lambda held: next(iter(held))),
    "key and value": (lambda w: {w: w}, lambda held: next(iter(held))),
    "key in a tuple": (lambda w: {(w, 1): 0}, lambda held: next(iter(held))[0]),
    "key of a default": (lambda w: defaultdict(list, {w: []}), lambda held: next(iter(held))),
    "ordered key": (lambda w: OrderedDict({w: 1}), lambda held: next(iter(held))),
    "closure": (lambda w: lambda: w, lambda held: held()),
    "object": (Plain, lambda held: held.value),
    "object with a tuple": (lambda w: Plain((0, w)), lambda held: held.value[1]),
    "namespace": (lambda w: SimpleNamespace(value=w), lambda held: held.value),
}


class Holding(nn.Module):
    def __init__(self, hold):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.held = hold(self.layer.weight)


def own(next_creator, **kwargs):
    return nn.Parameter(torch.zeros(kwargs["shape"]))


def test_what_nobody_else_holds_is_not_looked_for(monkeypatch):
    """A build that replaces parameters does not walk over all that lives."""
    monkeypatch.setattr(references, "referrers", None)
    with tc.creator_scope(own):
        model = build(lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    assert not any(parameter.detach().any() for parameter in model.parameters())


@pytest.mark.parametrize("name", HOLDERS)
def test_the_creators_parameter_is_held(name):
    """Whatever held the constructor's parameter holds the creator's afterwards."""
    hold, read = HOLDERS[name]
    with tc.creator_scope(own):
        model = build(Holding, hold)
    assert read(model.held) is model.layer.weight
    assert not read(model.held).is_meta


def test_what_held_both_is_made_once():
    """Two names of one tuple stay one object, and what else it holds stays as it was."""
    other = object()
    with tc.creator_scope(own):
        model = build(Holding, lambda w: [pair := (w, other), pair])
    first, second = model.held
    assert first is second
    assert first == (model.layer.weight, other)
    assert first[1] is other


def test_a_creators_object_may_hold_it_too():
    """What a creator keeps of its own parameter is left alone."""
    kept = []

    def keeping(next_creator, **kwargs):
        kept.append((nn.Parameter(torch.ones(kwargs["shape"])), kwargs["name"]))
        return kept[-1][0]

    with tc.creator_scope(keeping):
        model = build(Holding, lambda w: (w,))
    assert model.held[0] is kept[0][0]
    assert [name for _, name in kept] == ["layer.weight", "layer.bias"]


def test_what_else_is_in_a_dictionary_stays_in_its_place():
    """A dictionary whose keys are parameters keeps its order, its values and its type."""
    with tc.creator_scope(own):
        model = build(Holding, lambda w: OrderedDict([("first", 1), (w, "name"), ("last", 2)]))
    weight = model.layer.weight
    assert list(model.held.items()) == [("first", 1), (weight, "name"), ("last", 2)]
    assert type(model.held) is OrderedDict


def test_an_optimizers_state_follows():
    """The state that an optimizer made in the constructor keeps is that of the new parameter."""

    class Trained(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2, bias=False)
            self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            self.optimizer.state[self.layer.weight]["step"] = 3

    with tc.creator_scope(own):
        model = build(Trained)
    assert model.optimizer.param_groups[0]["params"][0] is model.layer.weight
    assert model.optimizer.state == {model.layer.weight: {"step": 3}}


def test_it_does_not_depend_on_how_many_references_python_counts(monkeypatch):
    """What somebody holds is found where Python lends references that it does not count."""
    count = sys.getrefcount
    monkeypatch.setattr(sys, "getrefcount", lambda value: count(value) - 2)
    with tc.creator_scope(own):
        model = build(Holding, lambda w: [w])
    assert model.held[0] is model.layer.weight


@pytest.mark.timeout(60)
def test_it_ends_whatever_holds_the_old_one():
    """Looking for what holds an object finds the question itself too, on Python 3.13."""
    with tc.creator_scope(own):
        model = build(lambda: nn.Sequential(*(Holding(lambda w: [(w, (w,))]) for _ in range(5))))
    assert all(part.held[0][1][0] is part.layer.weight for part in model)
