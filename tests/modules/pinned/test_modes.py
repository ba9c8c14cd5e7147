"""The user's own modes beside ours."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import torchcreator as tc
from tests.modules.pinned.writes import constant
from torchcreator._torch.dispatch import dispatch_stack_depth


class Counting(TorchDispatchMode):
    """Counts operations."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


class CountingCalls(TorchFunctionMode):
    """Counts calls."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [Counting, CountingCalls])
def test_a_users_mode_inside_the_scope_is_undisturbed(kind):
    """It sees what happens in it, closes, and the values on both sides of it stick."""
    with tc.creator_scope(constant(5.0)):
        before = nn.Linear(2, 2)
        with kind() as mode:
            during = nn.Linear(2, 2)
        seen = mode.count
        after = nn.Linear(2, 2)
        torch.zeros(1).add_(1)
    assert seen > 0
    assert mode.count == seen
    for layer in (before, during, after):
        assert all((p == 5.0).all() for p in layer.parameters())


@pytest.mark.parametrize("kind", [Counting, CountingCalls])
def test_a_first_pin_inside_a_users_mode_outlives_it(kind):
    """A mode of ours that is entered inside a user's goes below it, and stays when it closes."""
    with tc.creator_scope(constant(5.0)):
        with kind() as mode:
            during = nn.Linear(2, 2)
        assert dispatch_stack_depth() == 1
        after = nn.Linear(2, 2)
    assert mode.count > 0
    for layer in (during, after):
        assert all((p == 5.0).all() for p in layer.parameters())


@pytest.mark.parametrize("kind", [Counting, CountingCalls])
def test_a_users_mode_around_the_scope_is_undisturbed(kind):
    """A mode opened before the scope sees the scope's operations and those after it."""
    with kind() as mode:
        with tc.creator_scope(constant(5.0)):
            layer = nn.Linear(2, 2)
        seen = mode.count
        torch.zeros(1).add_(1)
        assert mode.count > seen > 0
    assert all((p == 5.0).all() for p in layer.parameters())


def test_modes_and_scopes_interleave():
    """Scopes and modes that are opened and closed in turns leave nothing and keep every value."""
    layers = []
    with Counting(), tc.creator_scope(constant(1.0)):
        layers.append(nn.Linear(2, 2))
        with Counting(), tc.creator_scope(constant(2.0)), Counting():
            layers.append(nn.Linear(2, 2))
        layers.append(nn.Linear(2, 2))
        with Counting():
            layers.append(nn.Linear(2, 2))
    assert [layer.weight[0, 0].item() for layer in layers] == [1.0, 2.0, 1.0, 1.0]


def test_a_scope_closed_inside_a_users_mode():
    """A scope that was opened before a mode and closes inside it takes only its own away."""
    scope = tc.creator_scope(constant(5.0))
    scope.__enter__()
    nn.Linear(2, 2)
    with Counting() as mode:
        scope.__exit__(None, None, None)
        torch.zeros(1).add_(1)
        assert mode.count > 0
        assert dispatch_stack_depth() == 1


@pytest.mark.parametrize("where", ["inside", "around", "after-a-pin"])
def test_fake_tensors(where):
    """FakeTensorMode opened and closed inside or around the scope makes fakes, and nothing else."""

    def creator(next_creator, **kwargs):
        kwargs["initial_value"] = lambda: torch.full(kwargs["shape"], 5.0)
        return next_creator(**kwargs)

    if where == "around":
        with FakeTensorMode(), tc.creator_scope(creator):
            fake = nn.Linear(2, 2)
        real = [nn.Linear(2, 2)]
    else:
        with tc.creator_scope(creator):
            real = [nn.Linear(2, 2)] if where == "after-a-pin" else []
            with FakeTensorMode():
                fake = nn.Linear(2, 2)
            real.append(nn.Linear(2, 2))
        assert all((p == 5.0).all() for layer in real for p in layer.parameters())
    assert all(isinstance(p, FakeTensor) for p in fake.parameters())
    assert not any(isinstance(p, FakeTensor) for layer in real for p in layer.parameters())
    assert all(tc.spec_of(p) is not None for p in fake.parameters())


@pytest.mark.parametrize(
    "context", [torch.inference_mode, torch.no_grad, lambda: torch.device("meta")]
)
def test_torchs_own_contexts(context):
    """Construction in torch's own contexts, inside the scope, ends as they say."""

    def creator(next_creator, **kwargs):
        kwargs["initial_value"] = lambda: torch.full(kwargs["shape"], 5.0)
        return next_creator(**kwargs)

    with tc.creator_scope(creator):
        with context():
            inside = nn.Linear(2, 2)
        after = nn.Linear(2, 2)
    assert all((p == 5.0).all() for p in after.parameters())
    if not inside.weight.is_meta:
        assert all((p == 5.0).all() for p in inside.parameters())
