"""Constraints on the norm of each unit's weights, with the formulas of Keras.

Source: ``keras.constraints``, where ``axis`` counts the other way round (a Keras kernel is
``(in, out)``) and the epsilon is ``keras.config.epsilon()``, 1e-7.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import torch
from typing_extensions import Self

from torchcreator._errors import VariableTypeError, VariableValueError, shown
from torchcreator.constraints._base import Projection

EPSILON = 1e-7
Dim: TypeAlias = int | tuple[int, ...] | None


def reduced_dims(dim: Dim, ndim: int) -> tuple[int, ...]:
    """Return the dimensions that ``dim`` means for a tensor of ``ndim`` dimensions, negative.

    None means every dimension but the first, that is the incoming weights of each unit; a vector
    is the weights of one unit. An empty tuple means all, as it does to ``torch.sum``.
    """
    if dim is None:
        return tuple(range(1 - ndim, 0)) if ndim > 1 else tuple(range(-ndim, 0))
    dims = (dim,) if isinstance(dim, int) else dim
    return tuple(d - ndim if d >= 0 else d for d in dims) or tuple(range(-ndim, 0))


class Grouped(Projection):
    """A projection of groups of elements that lie along ``dim``."""

    dim: Dim

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if "axis" in kwargs:
            raise VariableTypeError(
                f"{cls.__name__}(axis={shown(kwargs['axis'])}) is Keras' word.",
                "A kernel of Keras is (in, out), a weight of torch is (out, in).",
                "Write dim=1 for axis=0, or leave it out: each unit's incoming weights.",
            )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        dim: object = self.dim
        if isinstance(dim, list):
            object.__setattr__(self, "dim", tuple(dim))
        elif not (dim is None or isinstance(dim, (int, tuple))):
            raise VariableTypeError(
                f"{type(self).__name__}(dim={shown(dim)}) is not a dimension.",
                "The groups lie along one dimension or several.",
                "Write dim=1, dim=(1, 2), dim=() for the whole tensor, or leave it out.",
            )

    def objection(self, w: torch.Tensor) -> str | None:
        """Return why ``w`` has no such dimension, or is not of a floating dtype, or None."""
        dims = reduced_dims(self.dim, w.ndim)
        if all(-w.ndim <= d < 0 for d in dims) and len(set(dims)) == len(dims):
            return super().objection(w)
        return f"dim={self.dim!r} does not name distinct dimensions of a {w.ndim}-dimensional one"


class Normed(Grouped):
    """A projection that multiplies each group by a factor, which its norm decides."""

    @abstractmethod
    def factor(self, norm: torch.Tensor) -> torch.Tensor:
        """Return what a group of this norm is multiplied by."""

    def project(self, w: torch.Tensor, ndim: int) -> torch.Tensor:
        """Return ``w`` with each group multiplied by its factor."""
        return (w * self.factor(norm(w, reduced_dims(self.dim, ndim)))).to(w.dtype)


def norm(w: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
    """Return the Euclidean norms along ``dims``, kept, at least in float32."""
    if not dims:
        return w.abs()
    dtype = torch.float32 if w.dtype in (torch.float16, torch.bfloat16) else None
    lengths: torch.Tensor = torch.linalg.vector_norm(w, 2, tuple(dims), keepdim=True, dtype=dtype)
    return lengths


@dataclass(frozen=True)
class MaxNorm(Normed):
    r"""No unit's weights are longer than a bound.

    .. math:: w \leftarrow w \cdot \min(1, c / (\lVert w \rVert_2 + \epsilon))

    The nearest point of the ball of radius :math:`c`. Keras writes
    :math:`w \cdot \mathrm{clip}(\lVert w \rVert, 0, c) / (\epsilon + \lVert w \rVert)`, which is
    the same outside the ball; inside, where Keras shrinks a little at each step, nothing changes.

    Args:
        max_value: The bound :math:`c`.
        dim: The dimensions of one group; None means every dimension but the first.

    Raises:
        VariableValueError: The bound is negative.
        VariableTypeError: The bound is no number, or ``dim`` no dimension.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> tc.constraints.MaxNorm(1.0)(torch.tensor([[3.0, 4.0], [0.3, 0.4]]))
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """

    max_value: float = 2.0
    dim: Dim = None

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative(self, max_value=self.max_value)

    def factor(self, norm: torch.Tensor) -> torch.Tensor:
        """Return ``min(1, max_value / (norm + epsilon))``."""
        return (self.max_value / (norm + EPSILON)).clamp(max=1)


@dataclass(frozen=True)
class UnitNorm(Normed):
    r"""Every unit's weights have length one.

    .. math:: w \leftarrow w / (\epsilon + \lVert w \rVert_2)

    The nearest point of the unit sphere, but for the epsilon, which leaves zero at zero.

    Args:
        dim: The dimensions of one group; None means every dimension but the first.

    Raises:
        VariableTypeError: ``dim`` is no dimension.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> tc.constraints.UnitNorm()(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """

    dim: Dim = None

    def factor(self, norm: torch.Tensor) -> torch.Tensor:
        """Return ``1 / (norm + epsilon)``."""
        return 1 / (norm + EPSILON)


@dataclass(frozen=True)
class MinMaxNorm(Normed):
    r"""Every unit's weights have a length within bounds, at once or little by little.

    .. math::
        w \leftarrow w \cdot \frac{r \, \mathrm{clip}(\lVert w \rVert, a, b) + (1 - r)
        \lVert w \rVert}{\epsilon + \lVert w \rVert}

    With a rate :math:`r` of 1 it is the nearest point of the shell (zero stays at zero); below 1
    each step goes that part of the way, and it is not idempotent. A length within the bounds is
    left as it is, where Keras shrinks it by the epsilon.

    Args:
        min_value: The lower bound :math:`a`.
        max_value: The upper bound :math:`b`.
        rate: The part of the way to go, above 0 and at most 1.
        dim: The dimensions of one group; None means every dimension but the first.

    Raises:
        VariableValueError: The bounds or the rate describe no shell, or no way to it.
        VariableTypeError: One of them is no number.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> tc.constraints.MinMaxNorm(1.0, 2.0, rate=0.5)(torch.tensor([[3.0, 4.0]]))
        tensor([[2.1000, 2.8000]])
    """

    min_value: float = 0.0
    max_value: float = 1.0
    rate: float = 1.0
    dim: Dim = None

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative(self, min_value=self.min_value, max_value=self.max_value)
        check_numbers(self, rate=self.rate)
        if not self.min_value <= self.max_value or not 0 < self.rate <= 1:
            raise VariableValueError(
                f"{self!r} describes no shell, or no way to it.",
                "It needs min_value <= max_value and 0 < rate <= 1.",
                "Write MinMaxNorm(0.5, 1.0), say.",
            )

    @property
    def idempotent(self) -> bool:
        """Whether it goes the whole way at once."""
        return self.rate == 1

    def factor(self, norm: torch.Tensor) -> torch.Tensor:
        """Return the ratio of the wanted length to the present one."""
        clipped = norm.clamp(self.min_value, self.max_value)
        wanted = torch.lerp(norm, clipped, self.rate) if self.rate != 1 else clipped
        return torch.where(clipped == norm, 1, wanted / (norm + EPSILON))


def not_negative(constraint: object, **bounds: float) -> None:
    """Raise if a bound of a constraint is negative or not a number."""
    check_numbers(constraint, **bounds)
    for name, bound in bounds.items():
        if not bound >= 0:
            raise VariableValueError(
                f"{type(constraint).__name__}({name}={bound!r}) is not a length.",
                "A norm is never negative.",
                f"Use {name}=0 or more.",
            )


def check_numbers(constraint: object, **values: object) -> None:
    """Raise if a value of a constraint is not one number, as it comes from a file of text, say."""
    for name, value in values.items():
        if not isinstance(value, Real):
            raise VariableTypeError(
                f"{type(constraint).__name__}({name}={shown(value)}) is not a number.",
                "A constraint is a value, made of plain numbers.",
                f"Write {type(constraint).__name__}({name}=1.0), say.",
            )
