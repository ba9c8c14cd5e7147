"""What a model would be on a device: `inspect`, and fakes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

import torchcreator as tc
from tests.device.marks import CUDA

WIDE = 2**17  # 64 GiB a matrix


def wide():
    return nn.Sequential(nn.Linear(WIDE, WIDE), nn.LayerNorm(WIDE))


class Bare(nn.Module):
    """All that a torch without CUDA can make of fakes that are on it: it draws nothing there."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(WIDE, WIDE))
        self.norm = nn.LayerNorm(WIDE)


def test_an_inventory_says_where_everything_will_be(device):
    """`inspect` of a factory names the device, and makes nothing there."""
    inventory = tc.inspect(wide, device=device)
    assert {row.device.type for row in inventory} == {device.type}
    assert inventory["0.weight"].nbytes == 4 * WIDE * WIDE


def test_an_inventory_of_what_is_there(device):
    """A model on a device is listed as it lies there."""
    model = tc.build(nn.Linear, 4, 3, device=device, seed=0)
    assert [row.device for row in tc.inspect(model)] == [p.device for p in model.parameters()]


@pytest.mark.parametrize("device", [CUDA], indirect=True)
def test_describing_allocates_nothing(device):
    """Neither recording nor listing a model takes memory of the device."""
    before = torch.cuda.memory_allocated()
    tc.inspect(wide, device=device)
    model = tc.defer(wide, device=device, seed=0)
    assert all(p.is_meta for p in model.parameters())
    assert torch.cuda.memory_allocated() == before


def refused_by_torch(place):
    """Return whether fakes need a device that is there, as torch < 2.13 has it near a GPU."""
    with FakeTensorMode():
        try:
            torch.empty(1, device=place)
        except (RuntimeError, AssertionError):
            return True
    return False


def skip_if_refused(place):
    if refused_by_torch(place):
        pytest.skip(f"this torch makes no fake on {place} here")


@pytest.mark.parametrize("place", ["cpu", "cuda:0", "xpu:3"])
@pytest.mark.parametrize("make", [tc.build, tc.defer], ids=["build", "defer"])
def test_under_fakes_a_model_is_where_it_was_asked_for(make, place):
    """Inside a FakeTensorMode a model is fake, on any device, whether or not it is there."""
    skip_if_refused(place)
    with FakeTensorMode():
        model = make(Bare, device=place)
        assert {p.device.type for p in model.parameters()} == {torch.device(place).type}


@pytest.mark.parametrize("place", ["cpu", "cuda:0", "xpu:3"])
def test_under_fakes_an_inventory_names_any_device(place):
    """A machine without a GPU can say what a model would be on one."""
    skip_if_refused(place)
    with FakeTensorMode():
        inventory = tc.inspect(Bare, device=place)
    assert {row.device.type for row in inventory} == {torch.device(place).type}


@pytest.mark.parametrize("place", ["cuda:1", "xpu"])
def test_fakes_that_creators_make_are_on_any_device(place):
    """`creators.fake` and `creators.on` need no device to be there, or say which variable does."""
    with tc.creator_scope(tc.creators.fake(), tc.creators.on(place)):
        if refused_by_torch(place):
            with pytest.raises(ValueError, match=r"^Variable '0\.weight' cannot be a fake on"):
                tc.build(wide, seed=0)
            return
        model = tc.build(wide, seed=0)
    assert {p.device.type for p in model.parameters()} == {torch.device(place).type}
