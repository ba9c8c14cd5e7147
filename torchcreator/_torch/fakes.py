"""Fake tensors: a device, a shape and no memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch

from torchcreator._torch.dispatch import past_dispatch

if TYPE_CHECKING:
    from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode


def fake_mode() -> Any:
    """Return a new mode of fake tensors, which lets real ones take part in its operations."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes a while to import

    return FakeTensorMode(allow_non_fake_inputs=True)


def is_fake_mode(mode: object) -> bool:
    """Return whether this is a mode of fake tensors."""
    module: Any = sys.modules.get("torch._subclasses.fake_tensor")
    return module is not None and isinstance(mode, module.FakeTensorMode)


def is_fake(tensor: torch.Tensor) -> bool:
    """Return whether this is a fake tensor."""
    module: Any = sys.modules.get("torch._subclasses.fake_tensor")
    return module is not None and isinstance(tensor, module.FakeTensor)


def faked(mode: Any, tensor: torch.Tensor, device: Any) -> torch.Tensor:
    """Return a fake tensor on any device, with the shape, strides and dtype of another tensor."""
    from torch._subclasses.fake_tensor import FakeTensor

    guard = past_dispatch()  # entering the mode would tell the whole process of it
    try:
        alike = torch.empty_strided(
            tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta"
        )
    finally:
        del guard
    return FakeTensor(mode, alike, torch.device(device))
