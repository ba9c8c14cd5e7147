"""What every projection has in common: a pure form, a batched in-place form, and composition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from numbers import Real
from typing import TYPE_CHECKING, ClassVar

import torch

from torchcreator import _private
from torchcreator._errors import VariableTypeError, shown

if TYPE_CHECKING:
    from torchcreator._types import Constraint

CHUNK = 256 * 1024
"""Elements stacked at a time: a chunk and its result stay in a core's cache."""
ALONE = 64 * 1024
"""Above so many elements a parameter is projected by itself; stacking it would only copy it."""


class Projection(ABC):
    """A map of tensors onto a set of allowed ones.

    A subclass is a frozen dataclass that says what `project` does; everything else follows.
    Projections are values: equal by their fields, hashable, picklable, and safe for
    ``torch.load(weights_only=True)``.

    Attributes:
        by_shape: Whether the in-place form takes tensors of one shape only.

    Example:
        >>> import torch
        >>> from torchcreator import constraints
        >>> constraints.NonNeg()(torch.tensor([-1.0, 2.0]))
        tensor([0., 2.])
        >>> constraints.NonNeg() == constraints.get("non_neg")
        True
    """

    by_shape: ClassVar[bool] = True

    @property
    def idempotent(self) -> bool:
        """Whether projecting twice is the same as projecting once."""
        return True

    @abstractmethod
    def project(self, w: torch.Tensor, ndim: int) -> torch.Tensor:
        """Return the projection of ``w``; its leading ``w.ndim - ndim`` dimensions are a batch."""

    def objection(self, w: torch.Tensor) -> str | None:
        """Return why this projection is not defined for a tensor like ``w``, or None."""
        floating = w.is_floating_point() or w.is_complex()
        return None if floating else f"it divides, and {w.dtype} is not a floating dtype"

    def __call__(self, w: torch.Tensor, /) -> torch.Tensor:
        """Return the projection of ``w``, as a new tensor of its shape, dtype and device.

        Raises:
            VariableTypeError: The projection is not defined for this dtype or shape.
        """
        check(self, w, "w")
        # A copy, for a tensor that is allowed already may come back as it is.
        return self.project(w.clone(), w.ndim) if w.numel() else w.clone()

    def project_(self, ws: list[torch.Tensor]) -> None:
        """Project tensors of one shape, dtype and device in place, in few kernels.

        Args:
            ws: The tensors; autograd must be off.
        """
        for chunk in chunks(ws):
            if len(chunk) == 1:
                w = chunk[0]
                w.copy_(self.project(w, w.ndim))
            else:
                stacked = self.project(torch.stack(chunk), chunk[0].ndim)
                _private.foreach_copy_(chunk, stacked.unbind(0))

    def __and__(self, other: Constraint) -> Projection:
        """Return the projection that applies this one first and ``other`` to its result."""
        from torchcreator.constraints._compose import compose

        return compose(self, other) if callable(other) else NotImplemented

    def __rand__(self, other: Constraint) -> Projection:
        from torchcreator.constraints._compose import compose

        return compose(other, self) if callable(other) else NotImplemented


class Elementwise(Projection):
    """A projection of each element by itself: shards need not know of each other."""

    by_shape = False


def check(constraint: object, w: torch.Tensor, name: str) -> None:
    """Raise if a ready-made constraint is not defined for a tensor like ``w``.

    Args:
        constraint: Any constraint; a plain callable is never refused.
        w: The parameter, or a tensor of its dtype and shape.
        name: The variable's name, for the error.

    Raises:
        VariableTypeError: The dtype or the shape does not fit.

    Example:
        >>> import torch
        >>> from torchcreator import constraints
        >>> constraints.check(constraints.UnitNorm(), torch.zeros(2, 2), "w")
    """
    objection = constraint.objection(w) if isinstance(constraint, Projection) else None
    if objection is not None:
        raise misfit(constraint, w, name, objection)


def misfit(constraint: object, w: torch.Tensor, name: str, objection: str) -> VariableTypeError:
    """Return the error of a constraint that is not defined for a tensor like ``w``."""
    return VariableTypeError(
        f"{shown(constraint)} cannot constrain variable {name!r}: "
        f"shape {tuple(w.shape)}, dtype {w.dtype}.",
        f"It is not defined there: {objection}.",
        "Use another constraint, or a function of your own that returns a tensor like it.",
    )


def check_numbers(constraint: object, **arguments: object) -> None:
    """Raise if an argument of a constraint is not one real number: they are compared as values."""
    for name, value in arguments.items():
        plain = isinstance(value, (int, float)) or (isinstance(value, Real) and is_numpy(value))
        if isinstance(value, bool) or not plain or (isinstance(value, int) and abs(value) >> 63):
            raise VariableTypeError(
                f"{type(constraint).__name__}({name}={shown(value)}) is not a number.",
                "A constraint is a value, made of plain numbers that fit into a tensor.",
                f"Write {type(constraint).__name__}({name}=1.0), say.",
            )


def is_numpy(value: object) -> bool:
    """Return whether a number is one of NumPy's, which this library does not import."""
    return type(value).__module__ == "numpy"


def check_flags(constraint: object, **arguments: object) -> None:
    """Raise if an argument of a constraint is neither True nor False."""
    for name, value in arguments.items():
        if not isinstance(value, bool):
            raise VariableTypeError(
                f"{type(constraint).__name__}({name}={shown(value)}) is neither True nor False.",
                "It is a choice of two.",
                f"Write {type(constraint).__name__}({name}=True), or leave it out.",
            )


def chunks(ws: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Yield runs of tensors of one shape that are worth stacking; large ones come alone."""
    size = max(ws[0].numel(), 1) if ws else 1
    count = 1 if size > ALONE else CHUNK // size
    for start in range(0, len(ws), count):
        yield ws[start : start + count]


def solving(w: torch.Tensor) -> torch.Tensor:
    """Return ``w`` in a dtype that norms and factorisations are worth computing in."""
    return w.float() if w.dtype in (torch.float16, torch.bfloat16) else w
