"""Whether a tensor is sharded, and a rank's own part of a whole one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from typing_extensions import TypeIs

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Placement


def is_sharded(tensor: torch.Tensor) -> TypeIs[DTensor]:
    """Return whether a tensor is a ``DTensor``: this rank's part of a larger one."""
    # Importing DTensor takes half a second, and before somebody did there is none.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def held_part(tensor: DTensor) -> torch.Tensor:
    """Return what a ``DTensor`` holds of this rank's part.

    ``to_local`` returns the same through autograd, a view, at ten times the cost.
    """
    return tensor._local_tensor


def with_part(tensor: DTensor, part: torch.Tensor, *, trainable: bool) -> DTensor:
    """Return a ``DTensor`` placed as another one is, a parameter if that is one.

    ``from_local`` makes the same through autograd, and works out again how it is placed.

    Args:
        tensor: The other one.
        part: What it holds; moved to where the ranks are, unless it is on meta.
        trainable: Whether it requires a gradient.
    """
    here = part if part.is_meta else part.to(tensor.device_mesh.device_type)
    here = here.view_as(tensor._local_tensor)  # its shape, too, where a rank has nothing
    made = type(tensor)(here, tensor._spec, requires_grad=trainable)
    made.__dict__.update(tensor.__dict__)  # where torch notes that it is a parameter, too
    return made


def own_part(whole: torch.Tensor, mesh: DeviceMesh, placements: Sequence[Placement]) -> DTensor:
    """Return ``whole``, which every rank holds, as a ``DTensor``, each with its part of it.

    Nothing is sent, so nobody waits for anybody.
    """
    from torch.distributed import tensor  # takes a while to import

    return tensor.distribute_tensor(whole, mesh, placements, src_data_rank=None)
