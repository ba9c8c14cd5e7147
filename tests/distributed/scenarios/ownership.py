"""Parameters that two calls, two models or two hosts could claim: functions of a rank."""

from __future__ import annotations

import gc

import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import torchcreator as tc
from tests.distributed.models import feed, whole
from torchcreator.distributed import aggregate_gradients, data_parallel


class Summed(nn.Module):
    """One summed variable, which may be another model's."""

    def __init__(self, shared=None):
        super().__init__()
        made = tc.variable([1.0], aggregation="sum") if shared is None else shared
        self.w = made

    def forward(self, x):
        return (self.w * x).sum()


def gradient(model, rank, held=None):
    """Return the gradient of the one variable after one backward."""
    (p,) = set(model.parameters())
    p.grad = None
    (model if held is None else held)(feed(rank)).backward()
    return whole(p.grad).item()


def two_models(rank):
    first = Summed()
    second = Summed(first.w)
    aggregate_gradients(first)
    aggregate_gradients(second)
    return gradient(first, rank), gradient(second, rank)


def part_then_whole(rank):
    model = nn.Sequential(Summed())
    aggregate_gradients(model[0])
    aggregate_gradients(model)
    return gradient(model, rank), gradient(model[0], rank)


def whole_then_part(rank):
    model = nn.Sequential(Summed())
    aggregate_gradients(model)
    aggregate_gradients(model[0])
    return gradient(model, rank), gradient(model[0], rank)


def sharded_part_then_whole(rank):
    model = nn.Sequential(Summed())
    fully_shard(model[0])
    fully_shard(model)
    aggregate_gradients(model[0])
    aggregate_gradients(model)
    return gradient(model, rank)


def plain_then_data_parallel(rank):
    model = Summed()
    aggregate_gradients(model)
    return gradient(model, rank, data_parallel(model))


def plain_then_a_ddp(rank):
    model = Summed()
    aggregate_gradients(model)
    ddp = DistributedDataParallel(model)
    aggregate_gradients(ddp)
    return gradient(model, rank, ddp)


def data_parallel_then_plain(rank):
    model = Summed()
    ddp = data_parallel(model)
    handle = aggregate_gradients(model)
    got = gradient(model, rank, ddp)
    model.zero_grad()
    with handle.no_sync():  # which is the DDP's, that has the parameter
        ddp(feed(rank)).backward()
    return got, model.w.grad.item() / (rank + 1)


def the_first_owner_goes(rank):
    """Whoever is left takes over: after `remove`, and after the first model is no more."""
    first = Summed()
    second = Summed(first.w)
    handle = aggregate_gradients(first)
    aggregate_gradients(second)
    handle.remove()
    removed = gradient(second, rank)
    third = Summed(second.w)
    aggregate_gradients(third)
    del first, second, handle
    gc.collect()
    return removed, gradient(third, rank)


def other_ranks(rank):
    alone = [dist.new_group([0]), dist.new_group([1])][rank]
    model = nn.Sequential(Summed())
    aggregate_gradients(model[0])
    try:
        aggregate_gradients(model, process_group=alone)
    except tc.TorchCreatorError as error:
        return str(error)


def two_wrappers(rank):
    model = Summed()
    ddp = data_parallel(model)
    try:
        data_parallel(model)
    except tc.TorchCreatorError as error:
        message = str(error)
    kept = gradient(model, rank, ddp)
    del ddp
    return message, kept, gradient(model, rank, data_parallel(model))


SCENARIOS = [
    two_models,
    part_then_whole,
    whole_then_part,
    sharded_part_then_whole,
    plain_then_data_parallel,
    plain_then_a_ddp,
    data_parallel_then_plain,
    the_first_owner_goes,
    other_ranks,
    two_wrappers,
]
