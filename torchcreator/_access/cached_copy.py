"""A variable's copy on its caching device, made anew when the variable has changed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from torchcreator._torch import tensors

_CACHE = "_torchcreator_cached"


class CachedCopy:
    """A copy of a parameter on another device, with what tells whether it is still true.

    It lies in the parameter's ``__dict__`` and is empty again in every copy and pickle of it.
    """

    __slots__ = ("key", "value")

    def __init__(self) -> None:
        self.key: tuple[object, ...] | None = None
        self.value: torch.Tensor | None = None

    def __reduce__(self) -> tuple[type[CachedCopy], tuple[()]]:
        return CachedCopy, ()


torch.serialization.add_safe_globals([CachedCopy])


def cached(v: nn.Parameter, device: torch.device) -> torch.Tensor:
    """Return the copy that ``device`` has of a variable, differentiable back to the variable."""
    result: torch.Tensor = _Cached.apply(v, _copy_of(v, device))  # type: ignore[no-untyped-call]
    return result


def _copy_of(v: nn.Parameter, device: torch.device) -> torch.Tensor:
    if v.is_inference():  # it does not count its writes, so no copy is known to be true
        return v.to(device, copy=True)
    cache: CachedCopy = v.__dict__.setdefault(_CACHE, CachedCopy())
    # The address as well as the version: `p.data = x` leaves the version as it was. The copy's
    # own version, because somebody may have written into it.
    held, version = cache.value, tensors.version
    key = (device, version(v), v.data_ptr(), None if held is None else version(held))
    if held is None or key != cache.key:
        # As a tensor that counts its writes and serves in training too, whoever asks first.
        with torch.inference_mode(False), torch.no_grad():
            held = cache.value = v.detach().to(device, copy=True)
        cache.key = (*key[:3], version(held))
    return held


class _Cached(torch.autograd.Function):
    """The cached copy as a function of the parameter: the identity, on another device."""

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor, copy: torch.Tensor) -> torch.Tensor:
        ctx.device = v.device
        return copy.view_as(copy)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad.to(ctx.device), None
