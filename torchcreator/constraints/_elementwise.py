"""Constraints on each element by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from torchcreator._errors import VariableValueError
from torchcreator._torch.tensors import foreach_clamp_max_, foreach_clamp_min_
from torchcreator.constraints._arguments import check_numbers
from torchcreator.constraints._base import Elementwise


@dataclass(frozen=True)
class NonNeg(Elementwise):
    r"""No element is negative: :math:`w_i \leftarrow \max(w_i, 0)`.

    The nearest non-negative tensor. Keras calls it ``NonNeg`` too.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> tc.constraints.NonNeg()(torch.tensor([-1.0, 0.5]))
        tensor([0.0000, 0.5000])
    """

    def project(self, w: torch.Tensor, ndim: int) -> torch.Tensor:
        """Return ``max(w, 0)``."""
        return w.clamp(min=0)

    def project_(self, ws: list[torch.Tensor]) -> None:
        """Clamp tensors of one dtype and device, of any shapes, in one call."""
        foreach_clamp_min_(ws, 0)

    def objection(self, w: torch.Tensor) -> str | None:
        """Return why elements like those of ``w`` have no order, or None."""
        return _unordered(w)


@dataclass(frozen=True)
class Clip(Elementwise):
    r"""Every element is within bounds: :math:`w_i \leftarrow \min(\max(w_i, a), b)`.

    The nearest tensor in the box :math:`[a, b]`.

    Args:
        min_value: The lower bound :math:`a`, or None.
        max_value: The upper bound :math:`b`, or None.

    Raises:
        VariableValueError: Neither bound is given, or no number fits between them.
        VariableTypeError: A bound is no number.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> tc.constraints.Clip(-1, 1)(torch.tensor([-3.0, 0.5]))
        tensor([-1.0000,  0.5000])
    """

    min_value: float | None = None
    max_value: float | None = None

    def __post_init__(self) -> None:
        low, high = self.min_value, self.max_value
        if low is None and high is None:
            raise VariableValueError(
                "Clip() got neither bound.",
                "It would leave every tensor as it is.",
                "Write Clip(-1.0, 1.0), or one of min_value=..., max_value=....",
            )
        given = {"min_value": low, "max_value": high}
        check_numbers(self, **{name: bound for name, bound in given.items() if bound is not None})
        lowest, highest = -math.inf if low is None else low, math.inf if high is None else high
        if not lowest <= highest or lowest == math.inf or highest == -math.inf:
            raise VariableValueError(
                f"Clip(min_value={low!r}, max_value={high!r}) allows nothing.",
                "A number must fit between the bounds, and infinity is none.",
                f"Did you mean Clip({high!r}, {low!r})?",
            )

    def project(self, w: torch.Tensor, ndim: int) -> torch.Tensor:
        """Return ``w`` clamped to the bounds."""
        return w.clamp(self.min_value, self.max_value)

    def project_(self, ws: list[torch.Tensor]) -> None:
        """Clamp tensors of one dtype and device, of any shapes, in one call for each bound."""
        if self.min_value is not None:
            foreach_clamp_min_(ws, self.min_value)
        if self.max_value is not None:
            foreach_clamp_max_(ws, self.max_value)

    def objection(self, w: torch.Tensor) -> str | None:
        """Return why elements like those of ``w`` have no order, or None."""
        return _unordered(w)


def _unordered(w: torch.Tensor) -> str | None:
    ordered = not w.is_complex() and w.dtype != torch.bool
    return None if ordered else f"numbers of dtype {w.dtype} are not clamped"
