"""Gradients on their way: flattened into buckets, and put back where they belong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from torchcreator._access.collectives import World
from torchcreator._errors import DistributedError
from torchcreator._torch.tensors import foreach_copy_, unflattened
from torchcreator.distributed._policy import Managed

_CAPACITY = 25 * 1024 * 1024  # bytes in a bucket, as in DDP


@dataclass(eq=False)
class Bucket:
    """Parameters whose gradients travel together: of one world, device and dtype."""

    world: World
    members: list[Managed] = field(default_factory=list)
    bytes: int = 0


@dataclass(eq=False)
class Transfer:
    """One bucket on its way: the flat gradients, and a count per parameter behind them."""

    bucket: Bucket
    flat: torch.Tensor
    work: Any
    missing: bool


def buckets_of(managed: list[Managed], world: World) -> list[Bucket]:
    """Distribute parameters over buckets, from the last to the first."""
    buckets: list[Bucket] = []
    filling: dict[tuple[object, ...], Bucket] = {}
    for m in reversed(managed):
        own = m.world(world)
        if own.size == 1:
            continue
        key = (own, m.parameter.device, m.parameter.dtype)
        bucket = filling.get(key)
        if bucket is None or bucket.bytes >= _CAPACITY:
            bucket = filling[key] = Bucket(own)
            buckets.append(bucket)
        bucket.members.append(m)
        bucket.bytes += m.parameter.nbytes
    return buckets


def dense(m: Managed, gradient: torch.Tensor | None) -> torch.Tensor:
    """Return a parameter's gradient, or zeros where it has none.

    A gradient from earlier backwards travels too: it is reduced already, so its mean is itself.
    """
    if gradient is None:
        return torch.zeros_like(m.parameter)
    if gradient.layout is not torch.strided:
        raise DistributedError(
            f"The gradient of variable {m.name!r} is sparse.",
            "aggregate_gradients() flattens the gradients of a plain module into buckets.",
            "Build the embedding with sparse=False, or wrap the model with data_parallel().",
        )
    return gradient


def receive(transfer: Transfer) -> None:
    """Copy the reduced gradients of one bucket to where they belong."""
    parameters: list[torch.Tensor] = [m.parameter for m in transfer.bucket.members]
    counts = transfer.flat[-len(parameters) :]
    means = unflattened(transfer.flat, parameters)
    if transfer.missing:
        # Read only here: on CUDA that waits for the device.
        used = [i for i, count in enumerate(counts.tolist()) if count]
        parameters, means = [parameters[i] for i in used], [means[i] for i in used]
        for parameter in parameters:
            # Where no rank has a gradient, what was None stays None.
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if gradients:
        foreach_copy_(gradients, tuple(means))
