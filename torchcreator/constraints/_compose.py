"""One constraint after another, and functions of the user's own among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from torchcreator._errors import ConstraintError, VariableTypeError, shown
from torchcreator._types import Constraint
from torchcreator.constraints._base import Projection


@dataclass(frozen=True)
class Composed(Projection):
    """Applies its parts from left to right; written ``a & b``.

    The result satisfies the last part. It satisfies all where the later ones keep what the
    earlier ones made so, as `MaxNorm` keeps signs and zeros. It need not be the nearest point of
    the intersection, and is not taken to be idempotent.

    Args:
        parts: Constraints, or functions of a tensor.

    Raises:
        VariableTypeError: There is no part, or one is not callable.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> both = tc.constraints.NonNeg() & tc.constraints.MaxNorm(1.0)
        >>> both(torch.tensor([[-3.0, 4.0]]))
        tensor([[0., 1.]])
    """

    parts: tuple[Constraint, ...]

    def __post_init__(self) -> None:
        parts: object = self.parts
        if not isinstance(parts, tuple) or not parts or not all(map(callable, parts)):
            raise VariableTypeError(
                f"Composed(parts={shown(parts)}) is not made of constraints.",
                "Each part takes a tensor and returns the one that is allowed.",
                "Write NonNeg() & MaxNorm(1.0), say.",
            )

    @property
    def idempotent(self) -> bool:
        """Projections onto two sets, one after the other, seldom make a projection."""
        return False

    def objection(self, w: torch.Tensor) -> str | None:
        """Return the first part's objection."""
        return next(filter(None, (part.objection(w) for part in self.projections())), None)

    def project(self, w: torch.Tensor, ndim: int) -> torch.Tensor:
        """Return the last part's result."""
        for part in self.projections():
            w = part.project(w, ndim)
        return w

    def project_(self, ws: list[torch.Tensor]) -> None:
        """Let each part project all tensors, of one shape, in place."""
        for part in self.projections():
            part.project_(ws)

    def projections(self) -> Iterator[Projection]:
        """Yield each part as a projection."""
        return map(as_projection, self.parts)

    def __repr__(self) -> str:
        return " & ".join(map(repr, self.parts))


@dataclass(frozen=True)
class Function(Projection):
    """A function of the user's own, whose result is looked at before it is believed.

    Args:
        function: Takes a tensor, which is a copy, and returns one of its shape and dtype.
    """

    function: Constraint

    @property
    def idempotent(self) -> bool:
        """Nothing is known of it."""
        return False

    def objection(self, w: torch.Tensor) -> str | None:
        """Return None: a function judges for itself."""
        return None

    def project(self, w: torch.Tensor, ndim: int) -> torch.Tensor:
        """Return the function's result for each tensor of the batch."""
        if w.ndim == ndim:
            return self.result(w)
        return torch.stack([self.project(each, ndim) for each in w.unbind(0)])

    def project_(self, ws: list[torch.Tensor]) -> None:
        """Write the function's results; a result that cannot be used leaves its tensor alone."""
        for w in ws:
            w.copy_(self.result(w))

    def result(self, w: torch.Tensor) -> torch.Tensor:
        """Call the function with a copy of ``w`` and return what it gives, if that fits.

        Raises:
            ConstraintError: It gives no tensor, or one of another shape, dtype or device.
        """
        result: Any = self.function(w.detach().clone())
        if not isinstance(result, torch.Tensor):
            raise ConstraintError(
                f"The constraint {shown(self.function)} returned {shown(result)}.",
                "A constraint returns the tensor that the parameter is to become.",
                "End it with `return w`.",
            )
        for word in ("shape", "dtype", "device"):
            expected, actual = getattr(w, word), getattr(result, word)
            if actual != expected:
                raise ConstraintError(
                    f"The constraint {shown(self.function)} returned a tensor of another {word}.\n"
                    f"  expected: {expected}\n  actual:   {actual}",
                    "The parameter keeps its shape, dtype and device.",
                    f"Return a tensor of the {word} that it was given.",
                )
        return result

    def __repr__(self) -> str:
        return repr(self.function)


def as_projection(constraint: Constraint) -> Projection:
    """Return a constraint as a projection."""
    return constraint if isinstance(constraint, Projection) else Function(constraint)


def is_checked(constraint: Projection) -> bool:
    """Return whether a function of the user's own has a part in a projection."""
    if isinstance(constraint, Composed):
        return any(map(is_checked, constraint.projections()))
    return isinstance(constraint, Function)


def compose(first: Constraint, second: Constraint) -> Composed:
    """Return ``first`` followed by ``second``, without nesting."""
    return Composed((*_parts(first), *_parts(second)))


def _parts(constraint: Constraint) -> tuple[Constraint, ...]:
    return constraint.parts if isinstance(constraint, Composed) else (constraint,)
