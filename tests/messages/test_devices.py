"""A device that this machine lacks: told as the variable's error, whatever was tried before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.messages.parts import VALUE, message_of

pytestmark = pytest.mark.skipif(torch.xpu.is_available(), reason="needs a machine without XPU")

ABSENT = {
    "a variable": (lambda: tc.variable(1.0, device="xpu:6", name="gain"), "variable 'gain'"),
    "build": (lambda: tc.build(nn.Linear, 2, 3, device="xpu:6"), "variable 'build()'"),
    "defer": (lambda: tc.defer(nn.Linear, 2, 3, device="xpu:6"), "variable 'defer()'"),
    "inspect": (lambda: tc.inspect(nn.Linear, 2, 3, device="xpu:6"), "variable 'inspect()'"),
    "materialize": (
        lambda: tc.materialize(tc.defer(nn.Linear, 2, 3), device="xpu:6"),
        "variable 'materialize()'",
    ),
}


def on_xpu(next_creator, **kwargs):
    return next_creator(**{**kwargs, "device": "xpu:6"})


def stock():
    with tc.creator_scope(on_xpu):
        return nn.Linear(2, 3)


def built():
    with tc.creator_scope(on_xpu):
        return tc.build(lambda: nn.Sequential(nn.Linear(2, 3)))


ABSENT["a stock module in a scope"] = stock, "variable 'Linear.weight'"
ABSENT["a built one in a scope"] = built, "weight'"


@pytest.mark.parametrize(("work", "who"), ABSENT.values(), ids=ABSENT)
def test_an_absent_device_is_named_with_who_asked(work, who):
    """Every way to ask for a device says who asked, for which, and why it cannot be used."""
    what, why, instead = message_of(VALUE, work).split("\n", 2)
    assert f"{who} is 'xpu:6'" in what or f"{who} is device(type='xpu', index=6)" in what
    assert why.startswith("torch cannot use it here: ")
    assert instead == "Pass a device that this machine has, device='cpu', say."


def test_a_fake_device_does_not_become_a_real_one():
    """Under a FakeTensorMode every device is there; afterwards none has come to stay."""
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        assert tc.variable(1.0, device="xpu:5", name="gain").device == torch.device("xpu:5")
    message = message_of(VALUE, lambda: tc.variable(1.0, device="xpu:5", name="gain"))
    assert message.startswith("The device of variable 'gain' is 'xpu:5'.\n")


def test_a_recorded_constructor_finds_no_more_devices_than_a_plain_one():
    """What a constructor asks for under the recorder is refused as it is outside of it."""

    def factory():
        model = nn.Module()
        model.gain = tc.variable(nn.init.ones_, shape=(2,), device="xpu:4", name="gain")
        return model

    for work in (factory, lambda: tc.build(factory), factory):
        message = message_of(VALUE, work)
        assert message.startswith("The device of variable 'gain' is 'xpu:4'.\n")
