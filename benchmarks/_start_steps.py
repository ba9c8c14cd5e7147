"""The steps of a start, each with the processor time that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard

Phases = dict[str, float]


def phases(*steps: tuple[str, Callable[[Any], Any]]) -> tuple[Phases, Any]:
    """Run steps, each on what the one before returned; return the processor time of each."""
    taken: Phases = {}
    made: Any = None
    for name, step in steps:
        before = time.process_time()
        made = step(made)
        taken[name] = time.process_time() - before
    return taken, made


def sharded(model: nn.Module, *, columns: int | None = None, replicas: int = 1) -> nn.Module:
    """Shard each layer and what is left, by rows; what has ``columns`` dimensions by columns."""
    options: dict[str, Any] = {}
    if columns:
        options["shard_placement_fn"] = lambda p: Shard(1) if p.dim() == columns else Shard(0)
    if replicas > 1:
        shape = replicas, dist.get_world_size() // replicas
        options["mesh"] = init_device_mesh("cpu", shape, mesh_dim_names=("replicate", "shard"))
    layers: Any = getattr(getattr(model, "model", None), "layers", [])
    for layer in layers:
        fully_shard(layer, **options)
    fully_shard(model, **options)
    return model
