"""Tools that take all ranks for equal, on models with values per rank: functions of a rank."""

from __future__ import annotations

import math
import warnings

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

import torchcreator as tc
from tests.distributed.models import whole
from torchcreator.distributed import (
    aggregate_gradients,
    clip_grad_norm_,
    data_parallel,
    per_rank_parameters,
    prepare,
    verify,
)

INF = float("inf")


class Mixed(nn.Module):
    """A shared variable whose gradient is the mean of 3 and 5, and one with this rank's own."""

    def __init__(self):
        super().__init__()
        self.shared = tc.variable([1.0] * 2)
        self.own = tc.variable([1.0], synchronization="none")

    def forward(self, own):
        per_rank = (self.own * own).sum()
        return (self.shared * torch.tensor([3.0, 5.0])).sum() + per_rank


def plain(model):
    aggregate_gradients(model)
    return model


def prepared(model):
    return nn.parallel.DistributedDataParallel(prepare(model))


def static(model):
    return nn.parallel.DistributedDataParallel(prepare(model), static_graph=True)


def in_ddp(model):
    """Return a DDP that was told what to leave alone, and of its policies only afterwards."""
    names = ["own", ".own"]  # as DDP spells it in its two places
    nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)
    ddp = nn.parallel.DistributedDataParallel(model)
    aggregate_gradients(ddp)
    return ddp


def sharded(model):
    fully_shard(model, ignored_params=per_rank_parameters(model))
    aggregate_gradients(model)
    return model


HOSTS = {host.__name__: host for host in (plain, data_parallel, prepared, static, in_ddp, sharded)}


def groups_of(model):
    """Two groups: torch's foreach and fused kernels do not mix shards with other parameters."""
    return [{"params": [model.shared]}, {"params": [model.own]}]


def optimizers(model, lr):
    yield torch.optim.SGD(groups_of(model), lr=lr)
    yield torch.optim.SGD(groups_of(model), lr=lr, foreach=True)
    yield torch.optim.AdamW(groups_of(model), lr=lr, fused=True)


def clipped(rank):
    """Return each host's norm, and gradients, by norm type; the own gradients are 1 and 2."""
    results = {}
    for host, put in HOSTS.items():
        for norm_type in (2.0, 1.0, math.inf):
            model = Mixed()
            held = put(model)
            held(rank + 1.0).backward()
            total = clip_grad_norm_(model, 1.0, norm_type)
            grads = whole(model.shared.grad).tolist(), model.own.grad.tolist()
            results[host, norm_type] = (total.item(), *grads)
            for optimizer in optimizers(model, 0.1):
                optimizer.step()
            verify(model)
    return results


def groups(rank):
    """A variable of both ranks, in a group of its own, counts once."""
    model = nn.Module()
    model.w = tc.variable([1.0], process_group=dist.new_group([0, 1]), aggregation="mean")
    aggregate_gradients(model)
    (model.w * 3.0).sum().backward()
    return clip_grad_norm_(model, INF).item()


def clipped_by_torch(rank):
    """Return what is warned of, and whether the shared values are still equal."""
    results = {}
    for host in ("plain", "data_parallel", "prepared", "in_ddp"):
        model = Mixed()
        held = HOSTS[host](model)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        held(100.0 if rank else 0.0).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            optimizer.step()
        verify(model)
        results[host] = [str(warning.message) for warning in told]
    return results


def scaled(rank):
    """Return what a scaler makes of an infinity on rank 1 alone, and of a step after it."""
    results = {}
    for host in ("plain", "data_parallel", "prepared", "static", "in_ddp"):
        model = Mixed()
        held = HOSTS[host](model)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        seen = []
        for own in (INF if rank else 1.0, 1.0):
            optimizer.zero_grad()
            scaler.scale(held(own)).backward()
            scaler.step(optimizer)
            scaler.update()
            seen.append((model.shared.tolist(), model.own.tolist(), scaler.get_scale()))
        verify(model)
        results[host] = seen
    return results


def scaled_in_shards(rank):
    """Return the same of FSDP2, where shards and values per rank have an optimizer each."""
    model = Mixed()
    held = sharded(model)
    optimizers = [torch.optim.SGD([p], lr=1.0) for p in (model.shared, model.own)]
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    seen = []
    for own in (INF if rank else 1.0, 1.0):
        for optimizer in optimizers:
            optimizer.zero_grad()
        scaler.scale(held(own)).backward()
        for optimizer in optimizers:
            scaler.step(optimizer)
        scaler.update()
        seen.append((whole(model.shared).tolist(), scaler.get_scale()))
    return seen


def all_equal(rank):
    """Return what is warned of where a scaler and a clip by hand are the same on all ranks."""
    model = Mixed()
    held = data_parallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        scaler.scale(held(1.0 + rank)).backward()
        scaler.unscale_(optimizer)
        model.shared.grad.mul_(0.5)
        scaler.step(optimizer)
    return [str(warning.message) for warning in told], model.shared.tolist()


SCENARIOS = [clipped, groups, clipped_by_torch, scaled, scaled_in_shards, all_equal]
