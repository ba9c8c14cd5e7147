"""Creators for several ranks, on real ones."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard

import torchcreator as tc
from tests.support.ranks import run_ranks
from torchcreator import build
from torchcreator._errors import DistributedError
from torchcreator._torch.fakes import is_fake
from torchcreator.creators import fake, initialize, mirrored, sharded


def model():
    return nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_shards_make_up_the_whole(world_size, tmp_path):
    """Every rank has its part of what one process would have built, and a step works."""
    torch.manual_seed(3)
    whole = {name: value.clone() for name, value in build(model, seed=7).state_dict().items()}

    def rank(_):
        mesh = init_device_mesh("cpu", (world_size,))
        with tc.creator_scope(sharded(mesh, [Shard(0)])):
            made = build(model, seed=7)
        for name, parameter in made.named_parameters():
            assert isinstance(parameter, nn.Parameter)
            assert isinstance(parameter, DTensor)
            assert torch.equal(parameter.full_tensor(), whole[name])
            assert tc.spec_of(parameter).shape == whole[name].shape
        made[1].weight.sum().backward()
        torch.optim.SGD(made.parameters(), lr=1.0).step()
        assert torch.equal(made[1].weight.full_tensor(), whole["1.weight"] - 1)
        return made[0].weight.to_local().shape[0]

    rows = run_ranks(rank, world_size, tmp_path)
    assert sum(rows) == 5
    assert max(rows) == -(-5 // world_size)


def test_a_mesh_of_two_dimensions(tmp_path):
    """Sharded over one dimension of the mesh, and replicated over the other."""

    def rank(_):
        mesh = init_device_mesh("cpu", (2, 2))
        with tc.creator_scope(sharded(mesh, [Replicate(), Shard(1)])):
            table = tc.variable(torch.arange(12.0).view(3, 4), name="table")
        assert table.to_local().shape == (3, 2)
        assert torch.equal(table.full_tensor(), torch.arange(12.0).view(3, 4))

    run_ranks(rank, 4, tmp_path)


def test_a_stock_module_in_a_plain_scope_has_nothing_to_shard(tmp_path):
    """It is refused, with what to write; given a value, it is sharded."""

    def rank(_):
        mesh = init_device_mesh("cpu", (1,))
        with (
            tc.creator_scope(sharded(mesh, [Shard(0)])),
            pytest.raises(ValueError, match=r"(?s)sharded\(\) met Linear.weight.*build\(Linear"),
        ):
            nn.Linear(4, 3)
        with (
            tc.creator_scope(initialize(nn.init.ones_)),
            tc.creator_scope(sharded(mesh, [Shard(0)])),
        ):
            layer = nn.Linear(4, 3)
        assert isinstance(layer.weight, DTensor)
        assert (layer.weight.full_tensor() == 1).all()  # its own initialisation was dropped
        return True

    assert run_ranks(rank, 1, tmp_path) == [True]


def test_a_dimension_that_is_not_there_cannot_be_split(tmp_path):
    """A scalar, and a vector by its columns, are errors that name the variable."""

    def rank(_):
        mesh = init_device_mesh("cpu", (1,))
        with tc.creator_scope(sharded(mesh, [Shard(1)])):
            with pytest.raises(ValueError, match=r"split 'gain', of shape \(\), by"):
                tc.variable(1.0, name="gain")
            with pytest.raises(ValueError, match=r"split 'bias', of shape \(2,\), by"):
                tc.variable([1.0, 2.0], name="bias")
        return True

    assert run_ranks(rank, 1, tmp_path) == [True]


def test_values_are_the_first_ranks(tmp_path):
    """``mirrored`` sends each value as it is made, to one group or to all."""

    def rank(number):
        torch.manual_seed(number)
        pair = dist.new_group([1, 2])
        with tc.creator_scope(mirrored()):
            made = build(nn.Linear, 3, 2)
            gain = tc.variable([float(number)], name="gain")
            steps = tc.variable(number, name="steps")
        with tc.creator_scope(mirrored(process_group=pair)):
            other = tc.variable([float(number)], name="other")
        tc.distributed.verify(made)
        assert tc.spec_of(gain).synchronization is tc.VariableSynchronization.ON_WRITE
        return made.weight.tolist(), gain.item(), steps.item(), other.item()

    weights, gains, steps, others = zip(*run_ranks(rank, 3, tmp_path), strict=True)
    assert weights[0] == weights[1] == weights[2]
    assert gains == (0.0, 0.0, 0.0)
    assert steps == (0, 0, 0)
    assert others == (0.0, 1.0, 1.0)


def test_ranks_that_make_other_variables_are_told(tmp_path):
    """An unequal name is the same error on all ranks, and not a swap of values."""

    def rank(number):
        with (
            tc.creator_scope(mirrored()),
            pytest.raises(DistributedError, match=r"(?s)rank 0: left \(1,\).*rank 1: right \(1,\)"),
        ):
            tc.variable([1.0], name=("left", "right")[number])
        return True

    assert run_ranks(rank, 2, tmp_path) == [True, True]


def test_a_stock_module_in_a_plain_scope_has_nothing_to_send(tmp_path):
    """What would be sent is not the value that the module will have."""

    def rank(_):
        with (
            tc.creator_scope(mirrored()),
            pytest.raises(ValueError, match=r"mirrored\(\) met Linear.weight"),
        ):
            nn.Linear(4, 3)
        return True

    assert run_ranks(rank, 2, tmp_path) == [True, True]


def test_a_shared_variable_is_sharded_once(tmp_path):
    """A creator that hands out one parameter twice gets one shard, and a lazy one stays lazy."""

    def rank(_):
        mesh = init_device_mesh("cpu", (2,))
        kept = []

        def sharing(next_creator, **kwargs):
            if not kept:
                kept.append(next_creator(**kwargs))
            return kept[0]

        with tc.creator_scope(sharing), tc.creator_scope(sharded(mesh, [Shard(0)])):
            first, second = tc.variable(torch.ones(4)), tc.variable(torch.ones(4))
        assert first is second
        assert first.to_local().shape == (2,)
        with tc.creator_scope(sharded(mesh, [Shard(0)])):
            assert isinstance(tc.variable(validate_shape=False), nn.UninitializedParameter)

    run_ranks(rank, 2, tmp_path)


def test_the_shards_of_a_fake_are_fake(tmp_path):
    """Inside ``sharded``, ``fake`` makes each rank's part fake; the whole keeps its shape."""

    def rank(_):
        mesh = init_device_mesh("cpu", (2,))
        with tc.creator_scope(sharded(mesh, [Shard(0)])), tc.creator_scope(fake()):
            table = tc.variable(nn.init.zeros_, shape=(6, 4), name="table")
        assert isinstance(table, DTensor)
        assert table.shape == (6, 4)
        assert table.to_local().shape == (3, 4)
        assert is_fake(table.to_local())
        assert tc.spec_of(table).name == "table"

    run_ranks(rank, 2, tmp_path)
