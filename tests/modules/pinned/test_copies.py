"""Copies of a pinned parameter."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.modules.pinned.writes import constant


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Transformer(4, 2, 2, 2, 8, batch_first=True),
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 3, enable_nested_tensor=False
        ),
        lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 8), 2, nn.LayerNorm(4)),
    ],
    ids=["Transformer", "Encoder", "Decoder"],
)
def test_pins_follow_deep_copies(make):
    """Modules that copy a layer and initialise the copies keep the creator's value in each."""
    with tc.creator_scope(constant(5.0)):
        model = make()
    assert all((p == 5.0).all() for p in model.parameters())


def test_pins_follow_copies_of_copies():
    """A copy of a copy is pinned too, and so is a copy inside a list."""

    class Copying(nn.Module):
        def __init__(self):
            super().__init__()
            first = nn.Linear(2, 2)
            second = copy.deepcopy(first)
            self.all = nn.ModuleList([first, second, *copy.deepcopy([second, second])])
            for p in self.parameters():
                nn.init.zeros_(p)

    with tc.creator_scope(constant(5.0)):
        module = Copying()
    assert all((p == 5.0).all() for p in module.parameters())
    assert module.all[2] is module.all[3]


def test_copies_of_unpinned_parameters_are_free():
    """A copy of a layer that no creator valued is initialised by its constructor."""

    class Copying(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.copied = copy.deepcopy(layer)
            nn.init.zeros_(self.copied.weight)

    free = nn.Linear(2, 2)
    with tc.creator_scope(constant(5.0)):
        nn.Linear(2, 2)
        module = Copying(free)
    assert (module.copied.weight == 0.0).all()


def test_memory_that_was_freed_is_not_pinned():
    """A new tensor at the address of a parameter that is gone is written by constructors."""

    class Filling(nn.Module):
        def __init__(self):
            super().__init__()
            self.free = torch.empty(64, 64)
            self.free.fill_(1.0)

    with tc.creator_scope(constant(5.0)):
        for _ in range(50):
            nn.Linear(64, 64)
            assert (Filling().free == 1.0).all()
