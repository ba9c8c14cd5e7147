"""Models with policies, each in one of the hosts that ``aggregate_gradients`` knows."""

from __future__ import annotations

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from tests.distributed.models import Policies
from torchcreator.distributed import aggregate_gradients, per_rank_parameters


def in_ddp(rank, **options):
    ddp = DistributedDataParallel(Policies(rank, per_rank=False), **options)
    return ddp, aggregate_gradients(ddp)


def plain(rank, **options):
    model = Policies(rank)
    return model, aggregate_gradients(model, **options)


def in_fsdp(rank, **options):
    model = Policies(rank)
    ignored = per_rank_parameters(model)
    fully_shard(model.nested, ignored_params=ignored, **options)
    fully_shard(model, ignored_params=ignored, **options)
    return model, aggregate_gradients(model)


BF16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
HOSTS = {
    "ddp": (in_ddp, {}),
    "ddp with views": (in_ddp, {"gradient_as_bucket_view": True}),
    "ddp with tiny buckets": (in_ddp, {"bucket_cap_mb": 1e-6}),
    "plain": (plain, {}),
    "plain, fp16 on the wire": (plain, {"compress": torch.float16}),
    "plain, bf16 on the wire": (plain, {"compress": torch.bfloat16}),
    "fsdp2": (in_fsdp, {}),
    "fsdp2, never resharded": (in_fsdp, {"reshard_after_forward": False}),
    "fsdp2, bf16 parameters": (in_fsdp, {"mp_policy": BF16}),
}
