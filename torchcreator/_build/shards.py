"""A rank's part of a sharded parameter: which it is, and how the parameter takes it."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Shard

from torchcreator._errors import BuildError
from torchcreator._recorder.boxes import Range, Region, size_of_region
from torchcreator._torch.dtensor import held_part, with_part
from torchcreator._torch.hosts import moved, split_factor


def region_of(tensor: torch.Tensor, name: str) -> Region:
    """Return the part of a DTensor that this rank holds; nothing is communicated.

    Raises:
        BuildError: Its local part has another shape than its placements say.
    """
    assert isinstance(tensor, DTensor)
    mesh, coordinate = tensor.device_mesh, tensor.device_mesh.get_coordinate()
    region: list[list[Range]] = [[(0, length)] for length in tensor.shape]
    if coordinate is None:  # a rank outside the mesh has nothing
        return [[(0, 0)] for _ in tensor.shape]
    for dimension, placement in enumerate(tensor.placements):
        pieces, index = mesh.size(dimension), coordinate[dimension]
        factor = split_factor(placement)
        if factor is not None:  # FSDP2 over tensor parallelism: sharded right to left
            dim: int = placement.dim  # type: ignore[attr-defined]
            parts = [_piece(region[dim], factor, number) for number in range(factor)]
            region[dim] = [one for part in parts for one in _piece(part, pieces, index)]
        elif isinstance(placement, Shard):
            region[placement.dim] = _piece(region[placement.dim], pieces, index)
    local = held_part(tensor).shape
    if size_of_region(region) != local:
        raise _other_part(name, tensor, size_of_region(region))
    return [_joined(ranges) for ranges in region]


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """Return what a DTensor holds of this rank's part."""
    assert isinstance(tensor, DTensor)
    return held_part(tensor).detach()


def put(tensor: torch.Tensor, local: torch.Tensor, *, trainable: bool) -> None:
    """Let a DTensor, which stays the object it is, hold ``local`` as this rank's part."""
    assert isinstance(tensor, DTensor)
    with torch.inference_mode(tensor.is_inference()):
        if local.is_inference() is not tensor.is_inference():
            local = local.clone()
        torch.utils.swap_tensors(tensor, with_part(tensor, local, trainable=trainable))


def reset_fully_sharded(model: nn.Module) -> None:
    """Let FSDP2 take notice that its sharded parameters have other memory."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            moved(module)


def _piece(ranges: list[Range], pieces: int, index: int) -> list[Range]:
    """Return one of the pieces that `torch.chunk` makes of a dimension, which may be empty."""
    length = sum(stop - start for start, stop in ranges)
    each = -(-length // pieces)
    low, high = min(index * each, length), min((index + 1) * each, length)
    found, before = [], 0
    for start, stop in ranges:
        first, last = max(low, before), min(high, before + stop - start)
        if first < last:
            found.append((start + first - before, start + last - before))
        before += stop - start
    return found


def _joined(ranges: list[Range]) -> list[Range]:
    """Return ranges with those in one that follow each other; one that is empty for none."""
    joined: list[Range] = []
    for start, stop in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], stop
        else:
            joined.append((start, stop))
    return joined or [(0, 0)]


def _other_part(name: str, tensor: DTensor, expected: torch.Size) -> BuildError:
    return BuildError(
        f"This rank's part of {name!r} has another shape than its placements say.\n"
        f"  expected: {tuple(expected)}\n"
        f"  actual:   {tuple(held_part(tensor).shape)}",
        f"It is {tuple(tensor.shape)}, placed {list(tensor.placements)}: whoever sharded it has "
        "padded it, or cut it otherwise.",
        "Shard it by fully_shard, distribute_tensor or parallelize_module.",
    )
