"""Policies that nobody carries out, planted: functions of a rank, each ending in one step."""

from __future__ import annotations

import copy

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import torchcreator as tc
from tests.distributed.models import feed, whole
from torchcreator.distributed import (
    aggregate_gradients,
    data_parallel,
    per_rank_parameters,
    prepare,
)


class One(nn.Module):
    """One variable with any declaration."""

    def __init__(self, **declared):
        super().__init__()
        self.w = tc.variable([1.0], **declared)

    def forward(self, x):
        return (self.w * x).sum()


def step(model, rank, held=None, **options):
    """Return what one step says, and whether it left the parameters as they were."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, **options)
    before = [whole(p).detach().clone() for p in model.parameters()]
    try:
        (model if held is None else held)(feed(rank)).backward()
        optimizer.step()
    except tc.TorchCreatorError as error:
        same = all(map(torch.equal, before, map(whole, model.parameters())))
        return str(error), same
    return [p.item() for p in model.parameters()]


def nobody(rank):
    return step(One(aggregation="sum"), rank)


def only_the_first(rank):
    return step(One(aggregation="only_first_replica"), rank)


def in_a_plain_ddp(rank):
    model = One(aggregation="sum")
    return step(model, rank, DistributedDataParallel(model))


def per_rank_in_a_plain_ddp(rank):
    model = One(synchronization="none")
    return step(model, rank, DistributedDataParallel(model))


class Beside(One):
    """One variable with any declaration, beside one that is as large and declares nothing."""

    def __init__(self, **declared):
        super().__init__(**declared)
        self.w = tc.variable([1.0, 1.0], name="w", **declared)
        self.other = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return ((self.w + self.other) * x).sum()


def per_rank_in_shards(rank):
    model = Beside(synchronization="none")
    fully_shard(model)
    return step(model, rank, foreach=False)


def prepared_in_shards(rank, **declared):
    model = prepare(Beside(**declared))
    fully_shard(model, ignored_params=per_rank_parameters(model))
    return step(model, rank, foreach=False)


def per_rank_prepared_in_shards(rank):
    return prepared_in_shards(rank, synchronization="none")


def summed_prepared_in_shards(rank):
    return prepared_in_shards(rank, aggregation="sum")


def own_group(rank):
    return step(One(aggregation="mean", process_group=dist.new_group([0, 1])), rank)


def nested_in_a_part(rank):
    return step(nn.Sequential(nn.Sequential(One(aggregation="sum"))), rank)


def a_copy(rank):
    model = One(aggregation="sum")
    aggregate_gradients(model)
    return step(copy.deepcopy(model), rank)


def after_remove(rank):
    model = One(aggregation="sum")
    aggregate_gradients(model).remove()
    return step(model, rank)


def stepped_by_a_hook(rank):
    """An optimizer that steps as soon as a gradient is there, hooked before or after us."""
    results = []
    for host in (aggregate_gradients, data_parallel):
        for first in (True, False):
            model = One(aggregation="sum")
            optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
            held = None if first else host(model)
            model.w.register_post_accumulate_grad_hook(lambda p, o=optimizer: o.step())
            held = host(model) if first else held
            try:
                (held if host is data_parallel else model)(feed(rank)).backward()
            except tc.TorchCreatorError as error:
                results.append((str(error), model.w.item()))
    return results


def around_the_call(rank):
    """Thawed, and its backward around the module's call: told once, and right from then on."""
    model = One(aggregation="sum", trainable=False)
    model.other = nn.Parameter(torch.ones(1))
    aggregate_gradients(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model.w.requires_grad_(True)
    model.forward(feed(rank)).backward()
    try:
        optimizer.step()
    except tc.TorchCreatorError as error:
        message = str(error), model.w.item()
    optimizer.zero_grad()
    model.forward(feed(rank)).backward()
    optimizer.step()
    return message, model.w.item()


def put_into_a_live_list(rank):
    """A parameter put into a live optimizer's list in place, which nobody owns."""
    model = One(aggregation="mean")
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(feed(rank)).backward()
    optimizer.step()
    other = tc.variable([1.0], aggregation="sum", name="other")
    optimizer.param_groups[0]["params"].append(other)
    (other * feed(rank)).sum().backward()
    try:
        optimizer.step()
    except tc.TorchCreatorError as error:
        return str(error), other.item() == 1.0


def converted_after_the_wrap(rank):
    model = One(aggregation="sum")
    ddp = data_parallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model.double()
    model(feed(rank).double()).backward()
    try:
        optimizer.step()
    except tc.TorchCreatorError as error:
        return str(error), model.w.item() == 1.0
    finally:
        del ddp


TOLD = {
    nobody: "Variable 'w' declares the aggregation SUM, and nobody carries that out.",
    only_the_first: "Variable 'w' declares the aggregation ONLY_FIRST_REPLICA, and nobody",
    in_a_plain_ddp: "declares the aggregation SUM, and nobody carries that out.",
    per_rank_in_a_plain_ddp: "has a value per rank (NONE), and is in the hands of a Distrib",
    per_rank_in_shards: "Variable 'w' has a value per rank (NONE), and FSDP2 has sharded it.",
    per_rank_prepared_in_shards: "Variable 'w' has a policy, and fully_shard() has the model",
    summed_prepared_in_shards: "Variable 'w' has a policy, and fully_shard() has the model",
    own_group: "Variable 'w' declares a group of its own, and nobody carries that out.",
    nested_in_a_part: "Variable '0.0.w' declares the aggregation SUM",
    a_copy: "Variable 'w' declares the aggregation SUM",
    after_remove: "Variable 'w' declares the aggregation SUM",
    put_into_a_live_list: "Variable 'other' declares the aggregation SUM",
    converted_after_the_wrap: "The gradient of variable 'w' was not reduced.",
}


def mean(rank):
    return step(One(aggregation="mean"), rank)


def undeclared(rank):
    return step(One(), rank)


def undeclared_prepared_in_shards(rank):
    model = prepare(Beside())
    fully_shard(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        model(feed(rank)).backward()
        optimizer.step()
    return whole(model.w).tolist()


def per_rank(rank):
    return step(One(synchronization="none"), rank)


def per_rank_beside_a_ddp(rank):
    model = One(synchronization="none")
    ddp = DistributedDataParallel(One())
    got = step(model, rank)
    del ddp
    return got


def set_by_hand(rank):
    model = One(aggregation="sum")
    aggregate_gradients(model)
    model.w.grad = torch.ones(1)
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    return [model.w.item()]


def group_of_one(rank):
    alone = [dist.new_group([0]), dist.new_group([1])][rank]
    return step(One(aggregation="sum", process_group=alone), rank)


LEFT_ALONE = {
    mean: lambda rank: [-rank],
    undeclared: lambda rank: [-rank],
    undeclared_prepared_in_shards: lambda rank: [-2.0, -2.0],
    per_rank: lambda rank: [-rank],
    per_rank_beside_a_ddp: lambda rank: [-rank],
    set_by_hand: lambda rank: [0.0],
    group_of_one: lambda rank: [-rank],
}
