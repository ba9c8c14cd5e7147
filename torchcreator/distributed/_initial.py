"""The initial values of what is one value on all ranks."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from torchcreator._access.collectives import World, broadcast, told_apart
from torchcreator.distributed._policy import Managed

_FLAT = 25 * 1024 * 1024  # bytes that one broadcast takes along


def share(managed: list[Managed], world: World) -> None:
    """Overwrite what is one value on all ranks of a world with its first rank's."""
    tensors: dict[World, list[torch.Tensor]] = {}
    for m in managed:
        if not m.per_rank:
            tensors.setdefault(m.world(world), []).append(m.parameter)
    for own, theirs in tensors.items():
        broadcast_all(theirs, own)


def share_buffers(buffers: list[torch.Tensor], world: World) -> None:
    """Overwrite buffers with the first rank's."""
    broadcast_all(buffers, world)


@torch.no_grad()
def broadcast_all(tensors: list[torch.Tensor], world: World) -> None:
    """Broadcast tensors a few at a time: one after the other would take a round trip each."""
    if world.size == 1:
        return
    batches: dict[tuple[torch.device, torch.dtype], list[torch.Tensor]] = {}
    for tensor in tensors:
        batches.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    with told_apart("The initial values could not be broadcast", world):
        for batch in batches.values():
            for part in _parts(batch):
                _broadcast_batch(part, world)


def _parts(tensors: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    part: list[torch.Tensor] = []
    size = 0
    for tensor in tensors:
        part.append(tensor)
        size += tensor.nbytes
        if size >= _FLAT:
            yield part
            part, size = [], 0
    if part:
        yield part


def _broadcast_batch(batch: list[torch.Tensor], world: World) -> None:
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in batch])
    broadcast(flat, world)
    if world.rank != 0:
        for tensor, piece in zip(batch, flat.split([t.numel() for t in batch]), strict=True):
            tensor.copy_(piece.view(tensor.shape))
