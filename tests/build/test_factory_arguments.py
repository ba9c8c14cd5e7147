"""What `build`, `defer` and `inspect` take for themselves, and what the factory gets."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import torchcreator as tc

CALLERS = {"build": tc.build, "defer": tc.defer, "inspect": tc.inspect}
EACH = pytest.mark.parametrize("name", CALLERS)


class Noisy(nn.Module):
    """A model with a seed of its own, and a device that it does more with than torch does."""

    def __init__(self, size=2, *, seed=None, device=None):
        super().__init__()
        self.layer = nn.Linear(size, size)
        self.seed = seed
        self.place = device


@EACH
def test_a_seed_that_the_factory_has_too_is_refused(name):
    """It would be swallowed: the error says how to bind the factory's."""
    with pytest.raises(
        TypeError, match=rf"(?s){name}\(\) got seed=3, and Noisy has a seed.*partial"
    ):
        CALLERS[name](Noisy, seed=3)


@pytest.mark.parametrize(
    "factory",
    [functools.partial(Noisy, seed=1), lambda: Noisy(seed=1)],
    ids=["partial", "lambda"],
)
def test_both_seeds_are_given_in_a_partial_or_a_lambda(factory):
    """The factory's is bound, and the one of ``build`` is its own."""
    first, second = tc.build(factory, seed=0), tc.build(factory, seed=0)
    assert first.seed == 1
    assert torch.equal(first.layer.weight, second.layer.weight)


def test_a_seed_that_is_given_by_place_leaves_the_other_free():
    """A factory that has its seed already does not miss the one of ``build``."""

    def make(seed, size):
        model = nn.Linear(size, size)
        model.seed = seed
        return model

    assert tc.build(make, 7, 2, seed=0).seed == 7


@EACH
def test_a_factory_without_a_seed_takes_any(name):
    """Stock modules have none: the caller's makes their streams."""
    assert CALLERS[name](nn.Linear, 2, 3, seed=3) is not None


def test_a_device_that_the_factory_has_too_is_passed_on():
    """Both mean where the model is to be, and the factory may keep it."""
    assert tc.build(Noisy, device="cpu").place == "cpu"
    assert tc.build(functools.partial(Noisy, 3), device="cpu").place == "cpu"
    assert tc.build(functools.partial(Noisy, device="meta"), device="cpu").place == "meta"
    assert tc.defer(Noisy, device="cpu").place == "cpu"
    assert tc.build(nn.Linear, 2, 3, device="meta").weight.is_meta


def test_a_device_counts_inside_a_fake_mode_too():
    """There the factory is simply called, on that device."""
    with FakeTensorMode():
        assert tc.build(lambda: nn.Linear(2, 3), device="meta").weight.is_meta
        assert not tc.build(lambda: nn.Linear(2, 3)).weight.is_meta


@pytest.mark.parametrize("name", ["build", "defer"])
def test_a_model_is_no_factory(name):
    """Calling an instance would run its forward: the error names the class."""
    words = rf"(?s){name}\(\) got a Linear that is made already.*{name}\(Linear, \.\.\.\)"
    with pytest.raises(TypeError, match=words):
        CALLERS[name](nn.Linear(2, 2))


@pytest.mark.parametrize("make", [tc.build, tc.defer], ids=["build", "defer"])
def test_the_factory_refuses_what_it_does_not_take(make):
    """What a type checker would have told is the factory's own error."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        make(nn.Linear, 2, 2, nonsense=3)
