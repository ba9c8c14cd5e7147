"""The values and parameters that wait for their creators' decision during a build."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import build
from torchcreator._errors import BuildError


def test_a_value_left_on_meta_cannot_be_asked_for():
    """The constructor gave none, and the error names the parameter."""

    def asking(next_creator, **kwargs):
        kwargs["initial_value"]()
        return next_creator(**kwargs)

    with (
        tc.creator_scope(asking),
        pytest.raises(BuildError, match=r"'weight' was left on the meta device"),
    ):
        build(nn.Linear, 2, 3, device="meta")


def test_a_value_says_whose_it_is():
    """Printed in a creator, a true value is called by its parameter's full name."""
    printed = []

    def printing(next_creator, **kwargs):
        printed.append(repr(kwargs["initial_value"]))
        return next_creator(**kwargs)

    with tc.creator_scope(printing):
        build(lambda: nn.Sequential(nn.Linear(2, 3)))
    assert printed == ["<value of '0.weight'>", "<value of '0.bias'>"]


def test_a_creator_may_drop_the_value():
    """Without one the parameter has its constructor's, in the dtype that was asked for."""

    def dropping(next_creator, **kwargs):
        return next_creator(**{**kwargs, "initial_value": None, "dtype": torch.float64})

    torch.manual_seed(0)
    plain = nn.Linear(2, 3)
    torch.manual_seed(0)
    with tc.creator_scope(dropping):
        built = build(nn.Linear, 2, 3)
    assert torch.equal(built.weight, plain.weight.double())
    assert torch.equal(built.bias, plain.bias.double())
