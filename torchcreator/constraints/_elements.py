"""Constraints on elements: their bounds, which are zero, and what they sum to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from torchcreator._errors import VariableTypeError, VariableValueError, shown
from torchcreator._torch.tensors import foreach_clamp_max_, foreach_clamp_min_
from torchcreator.constraints._base import Elementwise, Projection, solving
from torchcreator.constraints._norms import Dim, Grouped, check_numbers, not_negative, reduced_dims


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
        lowest, highest = -math.inf if low is None else low, math.inf if high is None else high
        check_numbers(self, min_value=lowest, max_value=highest)
        if not lowest <= highest:
            raise VariableValueError(
                f"Clip(min_value={low!r}, max_value={high!r}) allows nothing.",
                "A number must fit between the bounds.",
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


@dataclass(frozen=True)
class Sparse(Grouped):
    r"""At most :math:`k` elements of each group are not zero.

    The :math:`k` largest in magnitude stay: the nearest tensor with so many non-zeros.

    Args:
        k: How many stay, or which part of the group (a float between 0 and 1, rounded up).
        dim: The dimensions of one group; None means every dimension but the first.

    Raises:
        VariableValueError: ``k`` is neither a positive count nor a part between 0 and 1.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> tc.constraints.Sparse(1)(torch.tensor([[1.0, -3.0, 2.0]]))
        tensor([[ 0., -3.,  0.]])
    """

    k: float
    dim: Dim = None

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.k, int) and self.k >= 1
        if not whole and not (isinstance(self.k, float) and 0 < self.k < 1):
            raise VariableValueError(
                f"Sparse(k={shown(self.k)}) is neither a count nor a part.",
                "A whole number says how many elements stay, a float which part of them.",
                "Write Sparse(8) or Sparse(0.1).",
            )

    def project(self, w: torch.Tensor, ndim: int) -> torch.Tensor:
        """Return ``w`` with all but the largest elements of each group set to zero."""
        dims = reduced_dims(self.dim, ndim)
        if not dims:
            return w.clone()
        last = tuple(range(-len(dims), 0))
        moved = w.movedim(dims, last)
        groups = moved.flatten(-len(dims))
        count = self.k if isinstance(self.k, int) else math.ceil(self.k * groups.shape[-1])
        if count >= groups.shape[-1]:
            return w.clone()
        largest = groups.abs().topk(count, -1, sorted=False).indices
        kept = torch.zeros_like(groups).scatter(-1, largest, groups.gather(-1, largest))
        return kept.reshape(moved.shape).movedim(last, dims)


@dataclass(frozen=True, eq=False)
class Masked(Projection):
    r"""Elements outside a mask are zero: :math:`w_i \leftarrow m_i \, w_i`.

    The nearest tensor that is zero there.

    Args:
        mask: What may be other than zero: a tensor or nested list that broadcasts to the
            parameter's shape; it is copied.

    Raises:
        VariableTypeError: torch cannot make a mask of it.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> tc.constraints.Masked([[1, 0], [1, 1]])(torch.ones(2, 2))
        tensor([[1., 0.],
                [1., 1.]])
    """

    mask: torch.Tensor

    def __post_init__(self) -> None:
        try:
            mask = torch.as_tensor(self.mask).detach().to_dense().to("cpu", torch.bool, copy=True)
        except (TypeError, ValueError, RuntimeError) as error:
            raise VariableTypeError(
                f"Masked(mask={shown(self.mask)}) is no mask.",
                f"torch cannot make a tensor of it: {str(error).partition(chr(10))[0]}.",
                "Pass a tensor, an array or a rectangular nested list of zeros and ones.",
            ) from error
        object.__setattr__(self, "mask", mask)

    def objection(self, w: torch.Tensor) -> str | None:
        """Return why the mask does not fit ``w``, or None."""
        try:
            fits = torch.broadcast_shapes(self.mask.shape, w.shape) == w.shape
        except RuntimeError:
            fits = False
        return (
            None if fits else f"a mask of shape {tuple(self.mask.shape)} does not broadcast to it"
        )

    def project(self, w: torch.Tensor, ndim: int) -> torch.Tensor:
        """Return ``w``, and zero outside the mask."""
        return torch.where(self._on(w.device), w, 0)

    def _on(self, device: torch.device) -> torch.Tensor:
        """Return the mask on a device; copied there once, for a copy at each step would wait."""
        copies: dict[torch.device, torch.Tensor] = self.__dict__.setdefault("_copies", {})
        if device not in copies:
            copies[device] = self.mask.to(device)
        return copies[device]

    def __getstate__(self) -> dict[str, Any]:
        return {"mask": self.mask}

    def __deepcopy__(self, memo: dict[int, Any]) -> Masked:
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Masked):
            return NotImplemented
        return torch.equal(self.mask, other.mask)

    def __hash__(self) -> int:
        return hash((Masked, self.mask.shape, int(self.mask.sum())))


@dataclass(frozen=True)
class Simplex(Projection):
    r"""Along the last dimension no element is negative, and their sum is given.

    .. math:: w \leftarrow \max(w - \theta, 0), \quad \theta \text{ such that } \sum_i w_i = s

    The nearest point of the simplex (Held, Wolfe and Crowder, 1974; Duchi and others, 2008).

    Args:
        total: The sum :math:`s`.

    Raises:
        VariableValueError: ``total`` is negative.
        VariableTypeError: ``total`` is no number.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> tc.constraints.Simplex()(torch.tensor([0.5, 1.0, -2.0]))
        tensor([0.2500, 0.7500, 0.0000])
    """

    total: float = 1.0

    def __post_init__(self) -> None:
        not_negative(self, total=self.total)

    def objection(self, w: torch.Tensor) -> str | None:
        """Return why ``w`` has no last dimension, or numbers that have no order, or None."""
        if w.ndim == 0:
            return "a number has no last dimension"
        return "complex numbers have no order" if w.is_complex() else super().objection(w)

    def project(self, w: torch.Tensor, ndim: int) -> torch.Tensor:
        """Return the nearest points of the simplex."""
        x = solving(w)
        falling = x.sort(dim=-1, descending=True).values
        excess = falling.cumsum(-1) - self.total
        counts = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
        # At least one stays; were NaN let to say zero, the index below would be out of range.
        support = (falling * counts > excess).sum(-1, keepdim=True).clamp(min=1)
        theta = excess.gather(-1, support - 1) / support
        return (x - theta).clamp(min=0).to(w.dtype)
