"""Hosts and optimizers that go ways of their own: functions of a rank."""

from __future__ import annotations

import warnings
from unittest import mock

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import torchcreator as tc
from tests.distributed.models import feed, whole
from torchcreator.distributed import aggregate_gradients, data_parallel, prepare


class Three(nn.Module):
    """A variable of each policy, and one of which nothing is asked."""

    def __init__(self):
        super().__init__()
        self.summed = tc.variable([1.0], aggregation="sum")
        self.mean = tc.variable([1.0], aggregation="mean")
        self.first = tc.variable([1.0], aggregation="only_first_replica")
        self.plain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return sum((p * x).sum() for p in self.parameters())


def grads(model):
    return [whole(p.grad).item() for p in model.parameters()]


def in_a_ddp(model):
    ddp = DistributedDataParallel(model)
    aggregate_gradients(ddp)
    return ddp


JOINING = {"data_parallel": data_parallel, "aggregate_gradients": in_a_ddp}


def uneven_join(rank):
    """Return the gradients while all take part, and those of rank 1 when it is alone."""
    results = {}
    for host, put in JOINING.items():
        model = Three()
        held = put(model)
        seen = []
        with held.join(divide_by_initial_world_size=False):
            for _ in range(1 + rank):
                model.zero_grad()
                held(feed(rank)).backward()
                seen.append(grads(model))
        results[host] = seen
    return results


def held_back_in_a_join(rank):
    messages = []
    for put in JOINING.values():
        held = put(Three())
        try:
            with held.join(divide_by_initial_world_size=False), held.no_sync():
                held(feed(rank)).backward()
        except tc.TorchCreatorError as error:
            messages.append(str(error))
    return messages


def accumulated_in_a_join(rank):
    held = data_parallel(Three())
    try:
        with held.join(divide_by_initial_world_size=False):
            held(feed(rank)).backward()
            held(feed(rank)).backward()
    except tc.TorchCreatorError as error:
        return str(error)


class Grouped(nn.Module):
    """A variable in a group of its own beside one of DDP's."""

    def __init__(self, group):
        super().__init__()
        self.own = tc.variable([1.0], aggregation="sum", process_group=group)
        self.plain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return ((self.own + self.plain) * x).sum()


def own_group_without_sync(rank):
    """Rank 0 has one micro-batch and rank 1 three: only the last of each is sent."""
    model = Grouped(dist.new_group([0, 1]))
    held = data_parallel(model)
    for last in [True] if rank == 0 else [False, False, True]:
        if last:
            held(feed(rank)).backward()
        else:
            with held.no_sync():
                held(feed(rank)).backward()
    return grads(model)


def own_group_in_a_join(rank):
    held = data_parallel(Grouped(dist.new_group([0, 1])))
    try:
        with held.join():
            held(feed(rank)).backward()
    except tc.TorchCreatorError as error:
        return str(error)


def fsdp_divides_by_something_else(rank):
    """The factor is set after the call, and changed once more."""
    model = fully_shard(Three())
    aggregate_gradients(model)
    model.set_force_sum_reduction_for_comms(True)
    results = []
    for factor in (1.0, 4.0):
        model.set_gradient_divide_factor(factor)
        model.zero_grad()
        model(feed(rank)).backward()
        results.append(grads(model))
    return results


class Expert(nn.Module):
    """A shared variable, and one with this rank's own value."""

    def __init__(self, rank):
        super().__init__()
        self.shared = tc.variable([1.0] * 4)
        self.expert = tc.variable([10.0 * (rank + 1)], synchronization="none")

    def forward(self, x):
        return (self.shared * x).sum() + (self.expert * x).sum()


def zero_redundancy(rank):
    from torch.distributed.optim import ZeroRedundancyOptimizer

    results = []
    for kind, options in ((torch.optim.SGD, {"lr": 1.0}), (torch.optim.Adam, {"lr": 1.0})):
        model = Expert(rank)
        held = data_parallel(model)
        optimizer = ZeroRedundancyOptimizer(held.parameters(), kind, **options)
        for _ in range(2):
            optimizer.zero_grad()
            held(torch.tensor(1.0)).backward()
            optimizer.step()
        results.append((model.shared.unique().tolist(), model.expert.item()))
    return results


def overlapping(ddp):
    """Return a ZeroRedundancyOptimizer that steps inside a DDP's backward, or would."""
    from torch.distributed.algorithms.ddp_comm_hooks.ddp_zero_hook import hook_with_zero_step
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
    from torch.distributed.optim import ZeroRedundancyOptimizer

    optimizer = ZeroRedundancyOptimizer(
        ddp.parameters(), torch.optim.SGD, overlap_with_ddp=True, lr=1.0
    )
    with mock.patch("torch.distributed.get_backend", return_value="nccl"):  # not made for gloo
        ddp.register_comm_hook(None, hook_with_zero_step(allreduce_hook, ddp, optimizer))
    return optimizer


def prepared_ddp(model):
    return DistributedDataParallel(prepare(model))


def given_policies(model):
    """Return a DDP that leaves out what is a rank's own, and has policies before its optimizer."""
    apart = [name for name, p, spec in tc.named_specs(model) if name in ("expert", "grouped")]
    names = {spelling for name in apart for spelling in (name, f".{name}")}
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)
    ddp = DistributedDataParallel(model)
    aggregate_gradients(ddp)
    return ddp


def grouped(rank):
    model = nn.Linear(1, 1)
    model.grouped = tc.variable([1.0], process_group=dist.group.WORLD, aggregation="mean")
    return model


def overlapping_zero_redundancy(rank):
    """Return what is said of what DDP leaves out, before a forward and at a step."""
    said = []
    for put in (prepared_ddp, given_policies):
        for make in (Expert, grouped):
            held = put(make(rank))
            optimizer = overlapping(held)
            for act in (lambda held=held: held(torch.ones(1)), optimizer.step):
                try:
                    act()
                except tc.TorchCreatorError as error:
                    said.append(str(error))
    return said


def overlapping_without_such(rank):
    """Return whether shared variables alone pass a forward and a step."""
    model = nn.Linear(1, 1)
    model.frozen = tc.variable([1.0], synchronization="none", trainable=False)
    held = prepared_ddp(model)
    optimizer = overlapping(held)
    held(torch.ones(1))
    optimizer.step()
    return True


def post_local_sgd(rank):
    from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
    from torch.distributed.optim import PostLocalSGDOptimizer

    said = []
    constrained = nn.Linear(1, 1)
    constrained.gain = tc.variable([1.0, 1.0], constraint="non_neg")
    for model in (Expert(rank), constrained):
        inner = torch.optim.SGD(model.parameters(), lr=1.0)
        optimizer = PostLocalSGDOptimizer(inner, PeriodicModelAverager(period=2))
        sum(p.sum() for p in model.parameters()).backward()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                optimizer.step()
            except tc.TorchCreatorError as error:
                said.append(str(error))
        said += [str(warning.message) for warning in told]
    return said


SCENARIOS = [
    uneven_join,
    held_back_in_a_join,
    accumulated_in_a_join,
    own_group_without_sync,
    own_group_in_a_join,
    fsdp_divides_by_something_else,
    zero_redundancy,
    overlapping_zero_redundancy,
    overlapping_without_such,
    post_local_sgd,
]
