"""Modules of torch and what it wraps around others, by its private names."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from tests.support import torchscript
from torchcreator._torch.modules import (
    LOADING,
    WRAPPINGS,
    forward_pre_hooks,
    is_normalisation,
    paths,
    saved_as,
    uncompiled,
)


def test_normalisation_is_recognised():
    """Modules with running statistics are, others are not."""
    assert is_normalisation(nn.BatchNorm1d(2))
    assert is_normalisation(nn.InstanceNorm2d(2))
    assert not is_normalisation(nn.LayerNorm(2))


def test_a_load_by_assignment_is_recognised():
    """The code that puts a loaded parameter into its module is the one that we know."""
    seen = []

    class Watched(nn.Linear):
        def __setattr__(self, name, value):
            seen.append(sys._getframe(1).f_code)
            super().__setattr__(name, value)

    model = Watched(2, 2, bias=False)
    seen.clear()
    model.load_state_dict({"weight": torch.ones(2, 2)}, assign=True)
    assert seen == [LOADING]


def test_wrappings_are_known():
    """What compiling and checkpointing wrap is found again, and their part of its name is known."""
    model = nn.Linear(2, 2, bias=False)
    compiled = torch.compile(model, backend="eager")
    assert uncompiled(compiled) is model
    assert uncompiled(model) is model
    wrapped = [compiled, checkpoint_wrapper(model)]
    assert [
        name.removesuffix("weight") for m in wrapped for name in m.state_dict(keep_vars=True)
    ] == [WRAPPINGS[0], ""]
    names = tuple(next(iter(dict(nn.Module.named_parameters(m)))) for m in wrapped)
    assert names == tuple(f"{wrapping}weight" for wrapping in WRAPPINGS)
    assert [*map(saved_as, names)] == [name for m in wrapped for name in m.state_dict()]


def test_hooks_before_a_forward_are_found():
    """Those that a module has, and no others."""
    model = nn.Linear(2, 2)
    assert list(forward_pre_hooks(model).values()) == []
    model.register_forward_pre_hook(test_wrappings_are_known)
    assert list(forward_pre_hooks(model).values()) == [test_wrappings_are_known]


def shared():
    """Return a model in which a part is at two places, and another one at none."""
    part = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model = nn.Sequential(part, nn.Sequential(nn.Linear(2, 2), part))
    model.register_module("absent", None)
    return model


@pytest.mark.parametrize(
    "make",
    [nn.ReLU, shared, lambda: torchscript.script(nn.Sequential(nn.Linear(2, 2)))],
    ids=["leaf", "shared", "scripted"],
)
def test_paths_are_those_of_named_modules(make):
    """Every path to every module, in torch's order."""
    model = make()
    assert paths(model) == list(model.named_modules(remove_duplicate=False))


def test_a_path_goes_through_no_module_twice():
    """In a circle each way ends where it would begin again."""
    outer, inner = nn.Module(), nn.Module()
    outer.first = outer.second = inner
    inner.back, inner.leaf = outer, nn.ReLU()
    names = ["", "first", "first.leaf", "second", "second.leaf"]
    assert [path for path, _ in paths(outer)] == names
