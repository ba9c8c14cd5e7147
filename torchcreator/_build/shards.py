"""This rank's shards of a deferred model, cut from full parameters one at a time."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Shard

from torchcreator._torch.hosts import moved, split_factor


def fill_shard(tensor: torch.Tensor, full: torch.Tensor, device: torch.device) -> None:
    """Put this rank's part of ``full`` into a DTensor, which stays the object it is."""
    assert isinstance(tensor, DTensor)
    part = _local_part(full, tensor).to(device)
    if part.untyped_storage().nbytes() != part.nbytes or part.device == full.device:
        part = part.clone(memory_format=torch.contiguous_format)  # let go of the full one
    _put(tensor, part)


def empty_shard(tensor: torch.Tensor) -> None:
    """Let this rank's part be on meta again."""
    assert isinstance(tensor, DTensor)
    if not tensor.to_local().is_meta:
        _put(tensor, tensor.to_local().detach().to("meta"))


def _put(tensor: DTensor, part: torch.Tensor) -> None:
    local = DTensor.from_local(
        part,
        tensor.device_mesh,
        tensor.placements,
        run_check=False,
        shape=tensor.shape,
        stride=tensor.stride(),
    )
    made: torch.Tensor = local
    if isinstance(tensor, nn.Parameter):
        made = nn.Parameter(local, tensor.requires_grad)
    made.__dict__.update(tensor.__dict__)
    torch.utils.swap_tensors(tensor, made)


def reset_fully_sharded(model: nn.Module) -> None:
    """Let FSDP2 take notice that its sharded parameters have other memory."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            moved(module)


def _local_part(full: torch.Tensor, tensor: DTensor) -> torch.Tensor:
    """Return this rank's part of a full tensor; nothing is communicated."""
    mesh = tensor.device_mesh
    coordinate = mesh.get_coordinate()
    if coordinate is None:  # a rank outside the mesh
        return full.new_empty(0)
    for dimension, placement in enumerate(tensor.placements):
        pieces, index = mesh.size(dimension), coordinate[dimension]
        factor = split_factor(placement)
        if factor is not None:  # FSDP2 over tensor parallelism: sharded right to left
            dim: int = placement.dim  # type: ignore[attr-defined]
            parts = [_piece(part, pieces, index, dim) for part in full.chunk(factor, dim)]
            full = torch.cat(parts, dim)
        elif isinstance(placement, Shard):
            full = _piece(full, pieces, index, placement.dim)
    return full


def _piece(tensor: torch.Tensor, pieces: int, index: int, dim: int) -> torch.Tensor:
    """Return one of the pieces that `torch.chunk` makes, empty where it makes fewer."""
    chunks = tensor.chunk(pieces, dim)
    return chunks[index] if index < len(chunks) else tensor.narrow(dim, 0, 0)
