"""Lazy modules in a scope."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.modules.creators import changed


def test_a_lazy_parameter_is_made_at_registration(ledger):
    """Creators run when a lazy parameter is registered, without shape, and never again."""
    with tc.creator_scope(ledger), tc.creator_scope(changed(aggregation="sum")):
        layer = nn.LazyLinear(3)
        seen = ledger.calls[-2:]  # LazyLinear registers an empty weight before the lazy one
        ledger.calls.clear()
        layer(torch.ones(1, 2))
    assert [call["name"] for call in seen] == ["weight", "bias"]
    assert [call["shape"] for call in seen] == [None, None]
    assert [call["validate_shape"] for call in seen] == [False, False]
    assert ledger.calls == []
    assert tc.spec_of(layer.weight).shape is None
    assert tc.spec_of(layer.weight).aggregation is tc.VariableAggregation.SUM


def test_a_lazy_module_initialises_itself_as_ever():
    """Policies on a lazy module change nothing of what its first forward makes."""
    torch.manual_seed(3)
    expected = nn.LazyLinear(3)
    expected(torch.ones(1, 2))
    torch.manual_seed(3)
    with tc.creator_scope(changed(constraint="non_neg")):
        layer = nn.LazyLinear(3)
    layer(torch.ones(1, 2))
    assert torch.equal(layer.weight, expected.weight)
    assert type(layer.weight) is nn.Parameter


def test_a_lazy_parameter_takes_dtype_and_trainable():
    """A creator may change the dtype of a lazy parameter, and freeze it."""
    with tc.creator_scope(changed(dtype=torch.float64, trainable=False)):
        layer = nn.LazyLinear(3)
    layer(torch.ones(1, 2, dtype=torch.float64))
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    assert {p.requires_grad for p in layer.parameters()} == {False}


def test_a_lazy_parameter_cannot_have_a_value():
    """A value for a parameter without shape is an error that says when it gets one."""

    def creator(next_creator, **kwargs):
        return next_creator(**{**kwargs, "initial_value": 1.0})

    with (
        tc.creator_scope(creator),
        pytest.raises(ValueError, match=r"LazyBatchNorm1d.*(\n.*)*shape is not known"),
    ):
        nn.LazyBatchNorm1d()
