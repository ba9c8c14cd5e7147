"""Whether a module already holds a parameter is known without asking anybody."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import time

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator._modules import ownership


@pytest.fixture
def names():
    """What passes the scope that is open during a test."""
    seen = []

    def creator(next_creator, **kwargs):
        seen.append(f"{type(kwargs['module']).__name__}.{kwargs['name']}")
        return next_creator(**kwargs)

    with tc.creator_scope(creator):
        yield seen


@pytest.fixture
def walks(monkeypatch):
    """Count the walks over what lives."""
    counted = []
    walk = ownership.holders
    monkeypatch.setattr(ownership, "holders", lambda p: counted.append(1) or walk(p))
    return counted


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(2, 2),
        lambda: nn.Conv2d(1, 1, 1),
        lambda: nn.LayerNorm(2),
        lambda: nn.MultiheadAttention(2, 1),
        lambda: nn.TransformerEncoderLayer(2, 1, 2),
    ],
    ids=["Linear", "Conv2d", "LayerNorm", "MultiheadAttention", "TransformerEncoderLayer"],
)
def test_fresh_parameters_need_no_walk(names, walks, make):
    """A parameter that its constructor makes and registers at once is known by its count alone."""
    make()
    assert names
    assert walks == []


class Variables(nn.Module):
    """Keeps its parameters in variables, lists and tuples until it registers them."""

    def __init__(self):
        super().__init__()
        weight = nn.Parameter(torch.empty(2))
        nn.init.zeros_(weight)
        self.weight = weight
        several = [nn.Parameter(torch.ones(1)), (nn.Parameter(torch.ones(1)), 1)]
        self.first = several[0]
        self.second = several[1][0]
        self.several = nn.ParameterList([nn.Parameter(torch.ones(1))])


def test_variables_need_no_walk(names, walks):
    """What a constructor's variables account for is fresh."""
    Variables()
    nn.LSTM(2, 2)
    assert len(names) == 8
    assert len(walks) <= (2 if sys.version_info < (3, 11) else 1)  # a list in a list is not read


def test_what_nothing_accounts_for_is_looked_for(names, walks):
    """Parameters that come out of a ``zip`` have a reference more, and are fresh all the same."""

    class Zipped(nn.Module):
        def __init__(self):
            super().__init__()
            for name, p in zip("ab", [nn.Parameter(torch.ones(1)) for _ in "ab"], strict=True):
                self.register_parameter(name, p)

    Zipped()
    assert names == ["Zipped.a", "Zipped.b"]
    assert len(walks) == 2


def test_what_is_declared_needs_no_walk(names, walks):
    """A parameter that passed the scope is found in the table of its module, under any name."""
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    second.register_parameter("other", first.bias)
    assert names == ["Linear.weight", "Linear.bias"] * 2
    assert walks == []


def test_what_was_there_before_is_known(names, walks):
    """A parameter of a module from before the scope is held."""
    token = len(names)
    before = _outside(lambda: nn.Linear(2, 2))
    module = nn.Module()
    module.w = before.weight
    weight = before.bias
    module.v = weight
    assert len(names) == token
    assert len(walks) == 2


def _outside(make):
    """Make something in a thread, that is outside the scopes of this one."""
    made = []
    thread = threading.Thread(target=lambda: made.append(make()))
    thread.start()
    thread.join()
    return made[0]


def test_a_module_that_is_gone_holds_nothing(names):
    """A parameter whose module is gone is free again, and so is one at the same address."""
    parameter = nn.Parameter(torch.ones(2))
    module = nn.Module()
    module.w = parameter
    del module
    gc.collect()
    other = nn.Module()
    other.v = parameter
    assert names == ["Module.w", "Module.v"]


def test_a_deleted_parameter_is_free(names):
    """A parameter that its module let go of is free."""
    module = nn.Module()
    module.w = nn.Parameter(torch.ones(2))
    parameter = module.w
    del module.w
    module.v = parameter
    assert names == ["Module.w", "Module.v"]


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "from before"])
@pytest.mark.parametrize("way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_held(names, way, declared):
    """A copy's parameters are held by the copy, which nothing registered."""
    original = nn.Linear(2, 2) if declared else _outside(lambda: nn.Linear(2, 2))
    copied = way(original)
    names.clear()
    other = nn.Linear(2, 2, bias=False)
    other.weight = copied.weight
    assert names == ["Linear.weight"]
    assert other.weight is copied.weight


def test_what_torch_puts_into_a_module_is_held(names):
    """`to_empty` and the like write a new parameter into the module, past the hook."""
    layer = _outside(lambda: nn.Linear(2, 2, device="meta"))
    layer.to_empty(device="cpu")
    other = nn.Module()
    other.w = layer.weight
    assert names == []


def test_a_loaded_parameter_is_held(names):
    """A parameter that loading assigned after the walk is held by its module."""
    layer = nn.Linear(2, 2)
    nn.LSTM(1, 1)
    layer.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)}, assign=True)
    names.clear()
    other = nn.Linear(2, 2, bias=False)
    other.weight = layer.weight
    assert names == ["Linear.weight"]


def test_objects_that_lie_about_their_class_do_no_harm(names):
    """The walk asks no object for its class, and reads nothing but modules' own dictionaries."""

    class Proxy:
        @property
        def __class__(self):
            raise LookupError("a proxy without its object")

    class Bare(nn.Module):
        def __init__(self):
            pass  # no _parameters

    proxies, bare, parameter = [Proxy()], Bare(), nn.Parameter(torch.ones(1))
    for proxy in proxies:
        proxy.held = parameter
    bare.__dict__["also"] = [parameter]
    module = nn.Module()
    module.w = parameter
    assert names == ["Module.w"]
    del bare.__dict__["also"]
    assert bare.__dict__ == {}
    del proxies


def test_the_walk_bears_other_threads():
    """Other threads may make modules and register parameters while the walk goes on."""
    enough, growing = threading.Event(), nn.Module()

    def grow():
        number = 0
        while not enough.is_set():
            growing.register_parameter(f"p{number % 50}", nn.Parameter(torch.ones(1)))
            number += 1
            if number % 50 == 0:
                growing._parameters.clear()

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        while not growing._parameters:
            time.sleep(0)
        for _ in range(20):
            assert ownership.holders([nn.Parameter(torch.ones(1))]) == []
        assert thread.is_alive()
    finally:
        enough.set()
        thread.join()
