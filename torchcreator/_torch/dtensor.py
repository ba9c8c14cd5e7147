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


def own_part(whole: torch.Tensor, mesh: DeviceMesh, placements: Sequence[Placement]) -> DTensor:
    """Return ``whole``, which every rank holds, as a ``DTensor``, each with its part of it.

    Nothing is sent, so nobody waits for anybody.
    """
    from torch.distributed import tensor  # takes a while to import

    return tensor.distribute_tensor(whole, mesh, placements, src_data_rank=None)
