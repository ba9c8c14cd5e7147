"""Backward, DDP, FSDP2 and optimizers, by torch's private names."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from tests.support.ranks import run_ranks
from torchcreator._torch.hosts import (
    all_sharded_parameters,
    at_end_of_backward,
    current_graph_task,
    ignore_in_ddp,
    is_zero_redundancy,
    moved,
    overlaps_with_ddp,
    sharded_parameters,
    split_factor,
    steps_in_backward,
)


def test_a_backward_has_a_number_and_an_end():
    """Inside a backward its number is known, and a callback runs once before it returns."""
    log = []

    def hook(parameter):
        log.append(current_graph_task() >= 0)
        at_end_of_backward(lambda: log.append("end"))

    p = nn.Parameter(torch.ones(1))
    p.register_post_accumulate_grad_hook(hook)
    (p * 2).sum().backward()
    assert log == [True, "end"]
    assert current_graph_task() == -1


def test_ddp_and_fsdp_are_as_we_know_them(tmp_path):
    """DDP leaves alone what it is told to; FSDP2 tells its parameters and its mesh."""

    def look(rank):
        model = nn.Linear(2, 2)
        ignore_in_ddp(model, {"bias"})
        ignore_in_ddp(model, {".bias"})
        ignored = DistributedDataParallel(model).parameters_to_ignore
        sharded = fully_shard(nn.Linear(2, 2, bias=False))
        (before,) = sharded_parameters(sharded)
        sharded.unshard()
        (after,) = sharded_parameters(sharded)
        same = after.sharded is before.sharded and after.whole is sharded.weight
        dist.barrier()
        return sorted(ignored), before.whole, same, (after.rank, after.size)

    assert run_ranks(look, 2, tmp_path) == [
        ([".bias", "bias"], None, True, (rank, 2)) for rank in range(2)
    ]


def test_every_sharded_parameter_is_listed(tmp_path):
    """What FSDP2 shards in the process is found, module by module; plain modules are not."""

    def look(rank):
        model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
        fully_shard(model[0])
        fully_shard(model)
        found = {id(p.sharded) for p in all_sharded_parameters()}
        return found == {id(p) for p in model.parameters()}

    assert all_sharded_parameters() == []
    assert run_ranks(look, 1, tmp_path) == [True]


def test_fsdp_notices_other_memory(tmp_path):
    """A shard that was exchanged is what the next all-gather gathers."""

    def look(rank):
        model = fully_shard(nn.Linear(2, 2, bias=False))
        with torch.no_grad():
            other = nn.Parameter(torch.full_like(model.weight, 3.0))
        torch.utils.swap_tensors(model.weight, other)
        moved(model)
        return model(torch.ones(1, 2)).tolist()

    assert run_ranks(look, 1, tmp_path) == [[[6.0, 6.0]]]


def test_plain_shards_have_no_split_factor():
    """Only the shards of FSDP2 over tensor parallelism have one."""
    from torch.distributed.tensor import Replicate, Shard

    assert split_factor(Shard(0)) is None
    assert split_factor(Replicate()) is None


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # by an import of torch's
def test_a_zero_redundancy_optimizer_is_recognised(tmp_path):
    """A ZeroRedundancyOptimizer says whether it steps inside DDP's backward; others are none."""

    def look(rank):
        from torch.distributed.optim import ZeroRedundancyOptimizer

        optimizer = ZeroRedundancyOptimizer(nn.Linear(2, 2).parameters(), torch.optim.SGD, lr=1.0)
        return is_zero_redundancy(optimizer), overlaps_with_ddp(optimizer)

    assert not is_zero_redundancy(torch.optim.SGD([nn.Parameter(torch.ones(1))]))
    assert run_ranks(look, 1, tmp_path) == [(True, False)]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # by an import of torch's
def test_a_step_inside_the_backward_is_recognised():
    """A parameter that torch steps in the backward says so; others do not."""
    from torch.distributed.optim import _apply_optimizer_in_backward

    stepped, plain = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    _apply_optimizer_in_backward(torch.optim.SGD, [stepped], {"lr": 1.0})
    assert steps_in_backward(stepped)
    assert not steps_in_backward(plain)
