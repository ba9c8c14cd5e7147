"""What befalls models under ``aggregate_gradients``: functions of a rank, in one world of two."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import weakref

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parallel.distributed import _MixedPrecision
from torch.utils.checkpoint import checkpoint

from tests.distributed.hosts import HOSTS, in_fsdp, plain
from tests.distributed.models import Policies, feed, gradients
from torchcreator import variable
from torchcreator.distributed import aggregate_gradients


class Unused(Policies):
    """Uses nothing of its own on the ranks that are told to skip, and `never` on none."""

    def __init__(self, rank):
        super().__init__(rank)
        self.never = nn.Parameter(torch.zeros(1))
        self.never.requires_grad_()

    def forward(self, x, skip=False):
        if skip:
            return self.nested(x)
        own = (self.summed, self.mean, self.first, self.plain, self.local)
        return sum((p * x).sum() for p in own) + self.nested(x)


def unused(rank):
    model = Unused(rank)
    aggregate_gradients(model)
    for _ in range(2):
        model(feed(rank), skip=rank == 1).backward()
    return gradients(model)


def unused_after_no_sync(rank):
    model = Unused(rank)
    aggregation = aggregate_gradients(model)
    with aggregation.no_sync():
        model(feed(rank)).backward()
    model(feed(rank), skip=True).backward()
    return gradients(model)


def nan_on_rank_1(rank):
    results = {}
    for host in ("ddp", "plain", "fsdp2"):
        model, _ = HOSTS[host][0](rank)
        model(torch.tensor([float("nan") if rank else 1.0])).backward()
        results[host] = str(gradients(model)["first"])
    return results


def raised_half_way(rank):
    class Faulty(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            raise RuntimeError(rank)

    model = Policies(rank)
    aggregate_gradients(model)
    x = feed(rank).requires_grad_()
    with contextlib.suppress(RuntimeError):
        model(Faulty.apply(x)).backward()
    model.zero_grad()
    model(feed(rank)).backward()
    return gradients(model)


def checkpointed(rank):
    model = Policies(rank, nested=False)
    aggregate_gradients(model)
    x = feed(rank).requires_grad_()
    y = checkpoint(model, x, use_reentrant=True)
    (y + checkpoint(model, x, use_reentrant=True)).backward()
    return gradients(model)


def converted(rank):
    """SUM after .to(): once through the module's own call, once around it."""
    model = Policies(rank, nested=False)
    aggregate_gradients(model)
    model.double()
    model(feed(rank).double()).backward()
    through_call = gradients(model)
    model.zero_grad()
    model.float()
    try:
        model.forward(feed(rank)).backward()
    except RuntimeError as error:
        message = str(error)
    model.zero_grad()
    model.forward(feed(rank)).backward()
    return through_call, message, gradients(model)


def evaluated_and_frozen(rank):
    results = []
    for host in ("ddp", "plain", "fsdp2"):
        model, _ = HOSTS[host][0](rank)
        if host != "fsdp2":  # whose all-gather torch itself does not do there
            with torch.inference_mode():
                model(feed(rank))
        if host == "plain":  # DDP and FSDP2 want to know beforehand
            model.summed.requires_grad_(False)
            model(feed(rank)).backward()
            assert model.summed.grad is None
            with_factors = (model.first, model.nested.summed, model.nested.first)
            for parameter in with_factors:
                parameter.requires_grad_(False)
            model(feed(rank)).backward()
            for parameter in (model.summed, *with_factors):
                parameter.requires_grad_(True)
            model.zero_grad()
        model(feed(rank)).backward()
        results.append(gradients(model)["summed"])
    return results


def called_twice(rank):
    results = []
    for host in ("ddp", "plain", "fsdp2"):
        model, _ = HOSTS[host][0](rank)
        aggregate_gradients(model)
        model(feed(rank)).backward()
        results.append(gradients(model)["summed"])
    return results


def removed(rank):
    results = []
    for host in ("ddp", "plain", "fsdp2"):
        model, aggregation = HOSTS[host][0](rank)
        aggregation.remove()
        aggregation.remove()
        model(feed(rank)).backward()
        results.append(gradients(model)["summed"])
    return results


def dropped_handle(rank):
    results = []
    for host in ("ddp", "plain", "fsdp2"):
        model, handle = HOSTS[host][0](rank)
        del handle
        gc.collect()
        model(feed(rank)).backward()
        freed, got = weakref.ref(model), gradients(model)["summed"]
        del model
        gc.collect()
        results.append((got, freed() is None))
    return results


def copied_and_pickled(rank):
    model, _ = plain(rank)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for other in copies:
        other(feed(rank)).backward()
    return [gradients(other)["summed"] for other in copies]


def values(rank):
    model, _ = plain(rank)
    return {name: p.item() for name, p in model.named_parameters()}


def large_parameters(rank):
    """Several buckets, several broadcasts, a parameter that is not contiguous."""
    model = nn.Module()
    for name, policy in {"a": "sum", "b": "mean", "c": "only_first_replica"}.items():
        value = torch.full((2000, 2000), float(rank))
        model.register_parameter(name, variable(value, aggregation=policy))
    model.d = nn.Parameter(torch.full((3, 4), float(rank)).t())
    aggregate_gradients(model)
    start = {name: p.unique().tolist() for name, p in model.named_parameters()}
    sum(((rank + 1) * p).sum() for p in model.parameters()).backward()
    return start, {name: p.grad.unique().tolist() for name, p in model.named_parameters()}


def compiled(rank):
    results = []
    for backend in ("eager", "aot_eager"):
        model, _ = plain(rank)
        step = torch.compile(model, backend=backend)
        for _ in range(2):
            step(feed(rank)).backward()
        results.append(gradients(model))
        torch.compiler.reset()
    return results


def mixed_dtypes(rank):
    model = Policies(rank, nested=False)
    model.half_ = variable(torch.zeros(1, dtype=torch.bfloat16), aggregation="sum", name="half")
    model.double_ = variable(
        torch.zeros(1, dtype=torch.float64), aggregation="only_first_replica", name="double"
    )
    model.complex_ = variable(torch.zeros(1, dtype=torch.complex64), aggregation="sum", name="c")
    aggregate_gradients(model, compress=torch.bfloat16)
    own = [p for p in model.parameters() if p.requires_grad]
    sum((p * (rank + 1)).real.sum() for p in own).backward()
    return gradients(model)


def stepping_in_backward(rank):
    model = Policies(rank)
    model.summed._in_backward_optimizers = []
    return refusal(model)


def sparse(rank):
    model = nn.Embedding(3, 1, sparse=True)
    aggregate_gradients(model)
    try:
        model(torch.tensor([0])).sum().backward()
    except RuntimeError as error:
        return str(error)


def refusal(model, **keywords):
    try:
        aggregate_gradients(model, **keywords)
    except (RuntimeError, TypeError) as error:
        return str(error)


def in_mixed_precision(rank):
    options = {"mixed_precision": _MixedPrecision(param_dtype=torch.bfloat16)}
    try:
        ddp = DistributedDataParallel(Policies(rank, per_rank=False), **options)
    except RuntimeError as error:  # a torch with CUDA, where there is none, makes no such DDP
        return f"torch refuses: {error}"
    return refusal(ddp)


def refused(rank):
    sharded = Policies(rank)
    fully_shard(sharded)
    ddp = DistributedDataParallel(Policies(rank, per_rank=False))
    holding = nn.Sequential(ddp)
    lonely = nn.Module()
    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    lonely.w = nn.Parameter(
        dist.tensor.distribute_tensor(torch.zeros(2), mesh, [dist.tensor.Shard(0)])
    )
    return {
        "per-rank in DDP": refusal(DistributedDataParallel(Policies(rank))),
        "per-rank in FSDP2": refusal(sharded),
        "another group": refusal(ddp, process_group=dist.new_group([0, 1])),
        "compress in DDP": refusal(ddp, compress=torch.float16),
        "compress in FSDP2": refusal(in_fsdp(rank)[0], compress=torch.float16),
        "DDP inside": refusal(holding),
        "mixed precision in DDP": in_mixed_precision(rank),
        "DTensor": refusal(lonely),
        "in backward": stepping_in_backward(rank),
    }


SCENARIOS = [
    unused,
    unused_after_no_sync,
    nan_on_rank_1,
    raised_half_way,
    checkpointed,
    converted,
    evaluated_and_frozen,
    called_twice,
    removed,
    dropped_handle,
    copied_and_pickled,
    values,
    large_parameters,
    compiled,
    mixed_dtypes,
    sparse,
    refused,
]
