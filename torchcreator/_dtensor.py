"""Whether a tensor is sharded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import torch
from typing_extensions import TypeIs

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: torch.Tensor) -> TypeIs[DTensor]:
    """Return whether a tensor is a ``DTensor``: this rank's part of a larger one."""
    # Importing DTensor takes half a second, and before somebody did there is none.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)
