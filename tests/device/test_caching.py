"""`caching_device` between the CPU and a device."""

from __future__ import annotations

import pytest
import torch

import torchcreator as tc

WAYS = {"there and back": ("cpu", None), "from the device": (None, "cpu")}


@pytest.fixture(params=WAYS)
def places(request, device):
    """Return where the variable is, and where its copy."""
    return tuple(device if place is None else torch.device(place) for place in WAYS[request.param])


def test_the_copy_is_kept_until_the_variable_changes(places):
    """Reads share one copy; an optimizer's step, an assignment and `.data` make a new one."""
    home, away = places
    v = tc.variable([2.0, 3.0], device=home, caching_device=away, name="v")
    read = tc.read_value(v)
    assert (v.device.type, read.device.type) == (home.type, away.type)
    assert tc.read_value(v).data_ptr() == read.data_ptr() != v.data_ptr()
    v.grad = torch.ones_like(v)
    torch.optim.SGD([v], lr=1.0).step()
    assert tc.read_value(v).tolist() == [1.0, 2.0]
    tc.assign(v, [7.0, 8.0])
    assert tc.read_value(v).tolist() == [7.0, 8.0]
    v.data = torch.tensor([5.0, 6.0], device=home)
    assert tc.read_value(v).tolist() == [5.0, 6.0]


def test_a_gradient_comes_back(places):
    """What is computed from the copy has its gradient where the variable is."""
    home, away = places
    v = tc.variable([2.0], device=home, caching_device=away, name="v")
    tc.read_value(v).square().sum().backward()
    assert v.grad.device.type == home.type
    assert v.grad.tolist() == [4.0]
