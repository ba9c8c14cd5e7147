"""Models that were prepared, in DDPs that somebody else made: functions of a rank."""

from __future__ import annotations

import copy
import io
import pickle

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import torchcreator as tc
from tests.distributed.models import Policies, feed, gradients
from torchcreator.distributed import aggregate_gradients, data_parallel, prepare


def once(held, rank):
    """Return the gradients of one backward, by the names in the bare model."""
    held.zero_grad()
    held(feed(rank)).backward()
    bare = gradients(held).items()
    return {name.replace("_orig_mod.", "").replace("module.", ""): grad for name, grad in bare}


def values(model):
    return {name: p.item() for name, p in model.named_parameters()}


def starts(rank):
    model = prepare(Policies(rank))
    DistributedDataParallel(model)
    return values(model)


def twice(rank):
    ddp = DistributedDataParallel(prepare(prepare(Policies(rank))))
    return once(ddp, rank)


def after_evaluation(rank):
    """The first forward is one rank's alone, and has no backward: nobody waits for anybody."""
    ddp = DistributedDataParallel(prepare(Policies(rank)))
    if rank == 0:
        with torch.no_grad():
            ddp(feed(rank))
    return once(ddp, rank)


def static_graph(rank):
    ddp = DistributedDataParallel(prepare(Policies(rank)), static_graph=True)
    once(ddp, rank)
    return once(ddp, rank)


def copied_before_the_wrap(rank):
    return once(DistributedDataParallel(copy.deepcopy(prepare(Policies(rank)))), rank)


def pickled_before_the_wrap(rank):
    return once(DistributedDataParallel(pickle.loads(pickle.dumps(prepare(Policies(rank))))), rank)


def wrapped_anew(rank):
    model = prepare(Policies(rank))
    once(DistributedDataParallel(model), rank)
    return once(DistributedDataParallel(model), rank)


def compiled_before_the_wrap(rank):
    model = prepare(Policies(rank, nested=False))
    ddp = DistributedDataParallel(torch.compile(model, backend="eager"))
    return once(ddp, rank), once(ddp, rank)


def compiled_after_the_wrap(rank):
    ddp = DistributedDataParallel(prepare(Policies(rank, nested=False)))
    step = torch.compile(ddp, backend="aot_eager")
    return once(step, rank), once(step, rank)


def in_data_parallel(rank):
    return once(data_parallel(prepare(Policies(rank))), rank)


def around_data_parallel(rank):
    outer = DistributedDataParallel(data_parallel(Policies(rank)))
    once(outer, rank)
    return once(outer, rank)


def around_aggregate_gradients(rank):
    model = Policies(rank, per_rank=False)
    aggregate_gradients(model)
    return once(DistributedDataParallel(model), rank)


def the_inner_one_alone(rank):
    inner = data_parallel(Policies(rank))
    outer = DistributedDataParallel(inner)
    once(outer, rank)
    try:
        inner(feed(rank))
    except tc.TorchCreatorError as error:
        return str(error)


HOSTS = {
    "prepare": lambda rank: DistributedDataParallel(prepare(Policies(rank))),
    "data_parallel": lambda rank: data_parallel(Policies(rank)),
    "aggregate_gradients": None,
}


def wrapped(rank, host):
    if host == "aggregate_gradients":
        ddp = DistributedDataParallel(Policies(rank, per_rank=False))
        aggregate_gradients(ddp)
    else:
        ddp = HOSTS[host](rank)
    once(ddp, rank)
    return ddp


def copied(rank):
    return {host: once(copy.deepcopy(wrapped(rank, host)), rank) for host in HOSTS}


def unpickled(rank):
    return {host: once(pickle.loads(pickle.dumps(wrapped(rank, host))), rank) for host in HOSTS}


def saved_and_loaded(rank):
    results = {}
    for host in HOSTS:
        file = io.BytesIO()
        torch.save(wrapped(rank, host), file)
        file.seek(0)
        results[host] = once(torch.load(file, weights_only=False), rank)
    return results


def too_late(rank):
    messages = []
    for wrap in (DistributedDataParallel, data_parallel):
        try:
            prepare(wrap(nn.Linear(1, 1)))
        except tc.TorchCreatorError as error:
            messages.append(str(error))
    return messages


def disagreeing(rank):
    model = nn.Module()
    model.w = tc.variable([1.0], aggregation=["sum", "mean"][rank])
    model.forward = lambda x: (model.w * x).sum()
    ddp = DistributedDataParallel(prepare(model))
    try:
        once(ddp, rank)
    except tc.TorchCreatorError as error:
        return str(error)


class WithBuffer(nn.Module):
    """A counter that is a buffer, with a policy."""

    def __init__(self, rank):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))
        self.register_buffer("seen", torch.tensor(float(rank)))
        tc.distributed.aggregate_buffer(self, "seen", "sum")

    def forward(self, x):
        return (self.w * x).sum()


def a_buffer(rank):
    model = prepare(WithBuffer(rank))
    once(DistributedDataParallel(model), rank)
    return model.seen.item()


def own_groups(rank):
    alone = [dist.new_group([0]), dist.new_group([1])][rank]
    both = dist.new_group([0, 1])
    model = nn.Module()
    model.alone = tc.variable([float(rank)], aggregation="sum", process_group=alone)
    model.both = tc.variable([float(rank)], aggregation="sum", process_group=both)
    model.plain = nn.Parameter(torch.ones(1))
    model.forward = lambda x: ((model.alone + model.both + model.plain) * x).sum()
    ddp = DistributedDataParallel(prepare(model))
    return once(ddp, rank), values(model)


RIGHT = [
    twice,
    after_evaluation,
    static_graph,
    copied_before_the_wrap,
    pickled_before_the_wrap,
    wrapped_anew,
    in_data_parallel,
    around_data_parallel,
]
COPIES = [copied, unpickled, saved_and_loaded]
OTHERS = [
    starts,
    around_aggregate_gradients,
    compiled_before_the_wrap,
    compiled_after_the_wrap,
    the_inner_one_alone,
    too_late,
    disagreeing,
    a_buffer,
    own_groups,
]
