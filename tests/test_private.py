"""The private names of torch that we use are where we look for them."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from tests.ranks import run_ranks
from torchcreator import _private


def test_a_backward_has_a_number_and_an_end():
    """Inside a backward its number is known, and a callback runs once before it returns."""
    log = []

    def hook(parameter):
        log.append(_private.current_graph_task() >= 0)
        _private.at_end_of_backward(lambda: log.append("end"))

    p = nn.Parameter(torch.ones(1))
    p.register_post_accumulate_grad_hook(hook)
    (p * 2).sum().backward()
    assert log == [True, "end"]
    assert _private.current_graph_task() == -1


def test_ddp_and_fsdp_are_as_we_know_them(tmp_path):
    """DDP leaves alone what it is told to; FSDP2 tells its parameters and its mesh."""

    def look(rank):
        model = nn.Linear(2, 2)
        _private.ignore_in_ddp(model, ["bias", ".bias"])
        ignored = DistributedDataParallel(model).parameters_to_ignore
        sharded = fully_shard(nn.Linear(2, 2, bias=False))
        (before,) = _private.sharded_parameters(sharded)
        sharded.unshard()
        (after,) = _private.sharded_parameters(sharded)
        same = after.sharded is before.sharded and after.whole is sharded.weight
        dist.barrier()
        return sorted(ignored), before.whole, same, (after.rank, after.size)

    assert run_ranks(look, 2, tmp_path) == [
        ([".bias", "bias"], None, True, (rank, 2)) for rank in range(2)
    ]
