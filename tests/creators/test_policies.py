"""Creators that declare what happens to a parameter later."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn

import torchcreator as tc
from torchcreator import build
from torchcreator.creators import aggregate, constrain, local

BOTH = pytest.mark.parametrize("make", [lambda f, *args: f(*args), build], ids=["scope", "build"])


@BOTH
def test_a_constraint_holds_after_a_step(make):
    """What ``constrain`` declares is carried out by any optimizer."""
    with tc.creator_scope(constrain(tc.constraints.MaxNorm(0.5))):
        layer = make(nn.Linear, 3, 2)
    layer(torch.ones(1, 3)).sum().backward()
    torch.optim.SGD(layer.parameters(), lr=100.0).step()
    assert layer.weight.norm(dim=1).max() <= 0.5 + 1e-6


def test_a_constraint_takes_the_place_of_a_declared_one():
    """The creator has the last word."""
    with tc.creator_scope(constrain("non_neg")):
        gain = tc.variable([1.0], constraint="max_norm")
    assert tc.spec_of(gain).constraint == tc.constraints.NonNeg()


@pytest.mark.parametrize("wrong", ["no_such", 3], ids=["name", "type"])
def test_a_wrong_constraint_is_refused_where_it_is_written(wrong):
    """A misspelt constraint does not wait for the first variable."""
    with pytest.raises(tc.TorchCreatorError, match="constrain"):
        constrain(wrong)


def test_an_aggregation_is_declared():
    """``aggregate`` declares policy and group; without a group the variable's stays."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        group, other = dist.new_group([0]), dist.new_group([0])
        with tc.creator_scope(aggregate("sum", process_group=group)):
            first = tc.variable([1.0])
        with tc.creator_scope(aggregate("mean")):
            second = tc.variable([1.0], process_group=other)
        assert tc.spec_of(first).aggregation is tc.VariableAggregation.SUM
        assert tc.spec_of(first).process_group is group
        assert tc.spec_of(second).aggregation is tc.VariableAggregation.MEAN
        assert tc.spec_of(second).process_group is other
    finally:
        dist.destroy_process_group()


def test_a_wrong_aggregation_is_refused_where_it_is_written():
    """The error lists the valid ones."""
    with pytest.raises(
        ValueError, match=r"aggregate got .*'avg' \(did you mean 'mean'\?\)"
    ) as caught:
        aggregate("avg")
    assert "variable" not in str(caught.value).partition("\n")[0]


@BOTH
def test_local_parameters_are_each_ranks_own(make):
    """``local`` declares that nothing is brought together, and keeps the gradient."""
    with tc.creator_scope(local()):
        expert = make(nn.Linear, 2, 3)
    assert tc.spec_of(expert.weight).synchronization is tc.VariableSynchronization.NONE
    assert expert.weight.requires_grad
