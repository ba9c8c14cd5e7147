"""Every tensor object that a constructor leaves behind is found, without a walk over the heap."""

from __future__ import annotations

import functools
import gc
import threading
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from torchcreator import build, defer, materialize

pytestmark = pytest.mark.usefixtures("in_sight")

CACHE = {}


@functools.lru_cache
def cached(length):
    return torch.arange(length).float()


class _Slots:
    __slots__ = ("tensor",)


def _slots(tensor):
    held = _Slots()
    held.tensor = tensor
    return held


# What keeps a tensor that no module knows, and how to get at it.
PLACES = {
    "a list": (lambda t: [t], lambda held: held[0]),
    "a tuple in a dict": (lambda t: {1: (t,)}, lambda held: held[1][0]),
    "a closure": (lambda t: lambda: t, lambda held: held()),
    "a default": (lambda t: lambda value=t: value, lambda held: held()),
    "an object": (lambda t: SimpleNamespace(t=t), lambda held: held.t),
    "slots": (_slots, lambda held: held.tensor),
    "a partial": (lambda t: functools.partial(id, t), lambda held: held.args[0]),
    "a bound method": (lambda t: [t].copy, lambda held: held()[0]),
    "a global": (lambda t: CACHE.update(t=t), lambda held: CACHE["t"]),
}
# Made by a function of torch, and past them.
TENSORS = {
    "tensor": lambda: torch.ones(3),
    "view": lambda: torch.ones(3, 2)[:, 0],
    "row": lambda: next(iter(torch.ones(2, 3))),
    "one of several": lambda: torch.ones(6).chunk(2)[0],
    "sorted": lambda: torch.ones(3).sort().values,
    "data": lambda: nn.Parameter(torch.ones(3)).data,
    "parameter": lambda: nn.Parameter(torch.ones(3)),
    "initialised parameter": lambda: nn.init.ones_(nn.Parameter(torch.empty(3))),
}
UNSEEN = {("parameter", "a global"), ("row", "a global")}
"""Made past torch's functions, never handed to one, and reached from nowhere in the model."""


class Loose(nn.Module):
    def __init__(self, place, make):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.held = place(make())


@pytest.mark.parametrize(
    ("tensor", "place"),
    [(tensor, place) for tensor in TENSORS for place in PLACES if (tensor, place) not in UNSEEN],
)
@pytest.mark.parametrize("later", [False, True], ids=["build", "materialize"])
def test_it_is_found(tensor, place, later):
    """Wherever a constructor keeps a tensor, it is the object it was, with its value."""
    keep, read = PLACES[place]
    model = (defer if later else build)(Loose, keep, TENSORS[tensor], seed=0)
    found = read(model.held)
    assert found.is_meta is later
    if later:
        materialize(model)
    assert read(model.held) is found
    assert found.tolist() == [1.0, 1.0, 1.0]
    CACHE.clear()


def test_a_cached_table_is_real():
    """A table that a function caches for the next model has its values after the first."""

    class Rotary(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", cached(4) * 2)

    try:
        assert build(Rotary).table.tolist() == [0.0, 2.0, 4.0, 6.0]
        assert cached(4).tolist() == [0.0, 1.0, 2.0, 3.0]
        assert build(Rotary).table.tolist() == [0.0, 2.0, 4.0, 6.0]
    finally:
        cached.cache_clear()


def test_a_constructor_may_exchange_tensors():
    """`torch.utils.swap_tensors` refuses weak references; the recorder makes none."""

    class Swapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.zeros(2), torch.ones(2)
            torch.utils.swap_tensors(self.first, self.second)

    model = build(Swapped)
    assert (model.first.tolist(), model.second.tolist()) == ([1.0, 1.0], [0.0, 0.0])


def test_what_nobody_keeps_is_not_made():
    """An operation whose result is gone by the end costs nothing, however it would fail."""

    def factory():
        layer = nn.Linear(2, 2)
        torch.ones(3).normal_(std=-1.0)
        return layer

    assert not build(factory, seed=0).weight.is_meta


def test_frozen_objects_are_found():
    """`gc.freeze`, in a constructor or before it, hides nothing."""
    shelf = []
    gc.freeze()
    try:

        def factory():
            layer = nn.Linear(2, 2)
            shelf.append(torch.ones(2))
            layer.kept = [nn.Parameter(torch.ones(2))]
            gc.freeze()
            return layer

        model = build(factory)
    finally:
        gc.unfreeze()
    assert shelf[0].tolist() == [1.0, 1.0]
    assert model.kept[0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("enabled", [True, False], ids=["enabled", "disabled"])
def test_the_collector_is_left_alone(enabled, monkeypatch):
    """Whether garbage is collected is the process's: two builds at once must not change it."""
    seen = []

    def factory():
        seen.append(gc.isenabled())
        return nn.Linear(2, 2)

    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        build(factory)
        threads = [threading.Thread(target=build, args=(factory,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
    assert seen == [enabled] * 3
