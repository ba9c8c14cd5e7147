"""Projections of DTensors: each rank writes its own shard, and they agree on the whole.

Every rank of the mesh takes part, also one whose shard is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from torchcreator._torch.dtensor import is_sharded
from torchcreator.constraints._base import Composed, Elementwise, Projection, chunks
from torchcreator.constraints._norms import Normed, norm, reduced_dims

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def local(w: Any) -> torch.Tensor:
    """Return what this rank holds of ``w``, to write on."""
    held: torch.Tensor = w.to_local() if is_sharded(w) else w.detach()
    return held


def whole(w: Any) -> torch.Tensor:
    """Return all of ``w``; a collective, if it is sharded."""
    gathered: torch.Tensor = w.full_tensor() if is_sharded(w) else w.detach()
    return gathered


def write_(w: Any, value: torch.Tensor) -> None:
    """Write a value that every rank has into ``w``, each rank its own shard; no collective."""
    if not is_sharded(w):
        w.copy_(value)
        return
    from torch.distributed.tensor import DTensor, Replicate

    everywhere = [Replicate()] * w.device_mesh.ndim
    same = DTensor.from_local(value, w.device_mesh, everywhere, run_check=False)
    w.to_local().copy_(same.redistribute(placements=w.placements).to_local())


def project_(constraint: Projection, ws: Sequence[DTensor]) -> None:
    """Project DTensors of one mesh, dtype and device in place.

    Args:
        constraint: Any projection that does not consist of unknown functions.
        ws: The DTensors, of any shapes and placements; autograd must be off.
    """
    if isinstance(constraint, Composed):
        for part in constraint.projections():
            project_(part, ws)
    elif isinstance(constraint, Elementwise):
        constraint.project_([local(w) for w in ws])
    elif isinstance(constraint, Normed):
        _project_norms_(constraint, ws)
    else:
        _project_whole_(constraint, ws)


def _project_whole_(constraint: Projection, ws: Sequence[DTensor]) -> None:
    """Gather, project and write back, a cache-sized chunk of wholes at a time."""
    for alike in _by_shape(ws):
        for chunk in chunks(alike):
            gathered = [whole(w).clone() for w in chunk]
            constraint.project_(gathered)
            for w, value in zip(chunk, gathered, strict=True):
                write_(w, value)


def _project_norms_(constraint: Normed, ws: Sequence[DTensor]) -> None:
    """Project where no norm crosses ranks as if nothing were sharded; the others together."""
    crossing = [(w, dims) for w in ws if (dims := _mesh_dims(constraint, w))]
    crossed = {id(w) for w, _ in crossing}
    within = [local(w) for w in ws if id(w) not in crossed]
    for alike in _by_shape([w for w in within if w.numel()]):
        constraint.project_(alike)
    norms = _norms_across(constraint, crossing)
    for (w, _), lengths in zip(crossing, norms, strict=True):
        shard = local(w)
        shard.copy_(shard * constraint.factor(lengths))


def _norms_across(
    constraint: Normed, ws: Sequence[tuple[DTensor, set[int]]]
) -> Iterable[torch.Tensor]:
    """Return the norms of groups that lie on several ranks.

    One all-reduce for each dimension of the mesh, however many variables there are.
    """
    squares = [norm(local(w), reduced_dims(constraint.dim, w.ndim)).square() for w, _ in ws]
    for mesh_dim in sorted({mesh_dim for _, mesh_dims in ws for mesh_dim in mesh_dims}):
        parts = [i for i, (_, mesh_dims) in enumerate(ws) if mesh_dim in mesh_dims]
        flat = torch.cat([squares[i].flatten() for i in parts])
        dist.all_reduce(flat, group=ws[parts[0]][0].device_mesh.get_group(mesh_dim))
        sums = flat.split([squares[i].numel() for i in parts])
        for i, total in zip(parts, sums, strict=True):
            squares[i] = total.view_as(squares[i])
    return [square.sqrt() for square in squares]


def _mesh_dims(constraint: Normed, w: DTensor) -> set[int]:
    """Return the dimensions of the mesh along which the groups of ``w`` are spread."""
    dims = reduced_dims(constraint.dim, w.ndim)
    return {
        mesh_dim
        for mesh_dim, placement in enumerate(w.placements)
        # Shard and the strided one of FSDP2 beside tensor parallelism have it, Replicate has not.
        if (dim := getattr(placement, "dim", None)) is not None and dim - w.ndim in dims
    }


def _by_shape(ws: Sequence[Any]) -> Iterable[list[Any]]:
    alike: dict[torch.Size, list[Any]] = {}
    for w in ws:
        alike.setdefault(w.shape, []).append(w)
    return alike.values()
