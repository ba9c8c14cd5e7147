"""Where a creator's own parameter takes the place of the constructor's."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator._build.build import build

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
