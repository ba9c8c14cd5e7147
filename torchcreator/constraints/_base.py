"""What every projection has in common: a pure form, a batched in-place form, and composition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch

from torchcreator._errors import ConstraintError, VariableTypeError, shown
from torchcreator._torch.tensors import foreach_copy_

CHUNK = 256 * 1024
"""Elements stacked at a time: a chunk and its result stay in a core's cache."""
ALONE = 64 * 1024
"""Above so many elements a parameter is projected by itself; stacking it would only copy it."""


class Constraint(Protocol):
    """A projection: takes a parameter's value and returns the nearest one that is allowed.

    Any callable of one tensor serves. The ready-made ones are in `torchcreator.constraints`.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> def unit_interval(w: torch.Tensor) -> torch.Tensor:
        ...     return w.clamp(0, 1)
        >>> p = tc.variable([0.5, 2.0], constraint=unit_interval)
        >>> tc.apply_constraints([p])
        >>> p.tolist()
        [0.5, 1.0]
    """

    def __call__(self, w: torch.Tensor, /) -> torch.Tensor:
        """Return the projection of ``w``, a tensor of the same shape and dtype."""
        ...


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
                foreach_copy_(chunk, stacked.unbind(0))

    def __and__(self, other: Constraint) -> Projection:
        """Return the projection that applies this one first and ``other`` to its result."""
        return compose(self, other) if callable(other) else NotImplemented

    def __rand__(self, other: Constraint) -> Projection:
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


def chunks(ws: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Yield runs of tensors of one shape that are worth stacking; large ones come alone."""
    size = max(ws[0].numel(), 1) if ws else 1
    count = 1 if size > ALONE else CHUNK // size
    for start in range(0, len(ws), count):
        yield ws[start : start + count]


def solving(w: torch.Tensor) -> torch.Tensor:
    """Return ``w`` in a dtype that norms and factorisations are worth computing in."""
    return w.float() if w.dtype in (torch.float16, torch.bfloat16) else w


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
        if not self.parts or not all(map(callable, self.parts)):
            raise VariableTypeError(
                f"Composed(parts={shown(self.parts)}) is not made of constraints.",
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
