"""Parameters that one call projects, in three kinds: plain, sharded, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from operator import attrgetter, is_
from typing import TYPE_CHECKING, NamedTuple, cast

import torch

from torchcreator._errors import ConstraintError, shown
from torchcreator._spec.live_modules import full_name
from torchcreator._torch.dtensor import is_sharded
from torchcreator._torch.tensors import version
from torchcreator.constraints import _shards
from torchcreator.constraints._base import Constraint, Projection, is_checked

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

_gradient = attrgetter("grad")


class Constrained(NamedTuple):
    """A parameter that has a constraint."""

    name: str
    parameter: torch.Tensor
    constraint: Constraint


class Seen:
    """Which version of a parameter was last projected.

    Shared by every optimizer that holds the parameter: one that wraps another must not project
    again what the inner one did.
    """

    __slots__ = ("forgotten", "parameter", "version")

    def __init__(self, parameter: torch.Tensor) -> None:
        self.parameter = parameter
        self.version = version(parameter)
        self.forgotten = True
        """Whether a step is under way: fused kernels write without raising a version."""

    def is_due(self) -> bool:
        """Return whether the parameter was written since."""
        written = self.version != version(self.parameter)
        return written or (self.forgotten and self.parameter.grad is not None)

    def remember(self) -> None:
        """Note that the parameter is as its constraint wants it."""
        self.version, self.forgotten = version(self.parameter), False


class Group:
    """Parameters that one call of one constraint projects.

    Args:
        constraint: The constraint.
        members: The parameters, alike enough for the constraint's batched form.
        seen: A record for each parameter, where projecting twice is not projecting once.
    """

    def __init__(
        self, constraint: Projection, members: Sequence[Constrained], seen: list[Seen] | None
    ) -> None:
        self.constraint = constraint
        self.parameters = [member.parameter for member in members]
        self.names = {id(member.parameter): member.name for member in members}
        self.seen = seen
        self._versions = list(map(version, self.parameters))

    def due(self) -> list[torch.Tensor]:
        """Return the parameters that had a gradient, or were written since their projection."""
        if self.seen is not None:
            return [seen.parameter for seen in self.seen if seen.is_due()]
        # In C all the way: this is what a constraint costs beside its one kernel. Where all have a
        # gradient, all were written.
        if not any(map(is_, map(_gradient, self.parameters), repeat(None))):
            return self.parameters
        return [
            p
            for p, before in zip(self.parameters, self._versions, strict=True)
            if p.grad is not None or version(p) != before
        ]

    def project(self, parameters: list[torch.Tensor]) -> list[ConstraintError]:
        """Project some of the parameters in place; return what went wrong."""
        self.constraint.project_(parameters)
        return []

    def remember(self, projected: list[torch.Tensor]) -> None:
        """Note that the parameters are as the constraint wants them."""
        if self.seen is not None:
            for seen in self.seen:
                seen.remember()
        elif projected is not self.parameters:
            self._versions = list(map(version, self.parameters))


class ShardedGroup(Group):
    """DTensors of one mesh; the other ranks project the same ones."""

    def project(self, parameters: list[torch.Tensor]) -> list[ConstraintError]:
        """Project the shards in place."""
        _shards.project_(self.constraint, cast("list[DTensor]", parameters))
        return []


class CheckedGroup(Group):
    """Parameters whose constraint is a function that nobody has looked at before."""

    def project(self, parameters: list[torch.Tensor]) -> list[ConstraintError]:
        """Write each result that can be used, and return an error for each that cannot."""
        failures: list[ConstraintError] = []
        results: list[Result] = []
        for p in parameters:
            try:
                before = _shards.whole(p)
                results.append(Result(p, before, self.constraint.project(before, p.ndim)))
            except Exception as error:  # raised once the others are projected
                failures.append(self._named(p, error))
        spoiled = _spoiled(results)
        for result in results:
            if id(result.parameter) in spoiled:
                failures.append(self._not_finite(result.parameter))
            else:
                _shards.write_(result.parameter, result.after)
        return failures

    def _named(self, p: torch.Tensor, error: Exception) -> ConstraintError:
        """Return an error that says which variable it is about."""
        name = self._name(p)
        if isinstance(error, ConstraintError):
            what, why, instead = error.args
            return ConstraintError(f"Variable {name!r} cannot be constrained: {what}", why, instead)
        failure = ConstraintError(
            f"The constraint {shown(self.constraint)} of variable {name!r} raised "
            f"{type(error).__name__}: {error}",
            "The variable is left as the optimizer wrote it.",
            "Try the constraint on a tensor of its shape and dtype by hand.",
        )
        failure.__cause__ = error
        return failure

    def _name(self, p: torch.Tensor) -> str:
        return full_name(p, self.names[id(p)])

    def _not_finite(self, p: torch.Tensor) -> ConstraintError:
        return ConstraintError(
            f"The constraint {shown(self.constraint)} of variable {self._name(p)!r} made NaN or "
            "infinity of finite values.",
            "The variable would be lost; it is left as the optimizer wrote it.",
            "Look for a division by zero: add an epsilon, or use torch.where.",
        )


class Result(NamedTuple):
    """What a function made of a parameter."""

    parameter: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor


def _spoiled(results: Sequence[Result]) -> set[int]:
    """Return the ids of finite parameters whose result is not finite, with one look at a device.

    A run that has diverged already is not the constraint's fault. While a CUDA graph is captured
    nothing can be looked at.
    """
    if not results or (results[0].after.is_cuda and torch.cuda.is_current_stream_capturing()):
        return set()
    finite = torch.stack([torch.isfinite(result.after).all() for result in results]).tolist()
    suspects = [result for result, fine in zip(results, finite, strict=True) if not fine]
    return {id(s.parameter) for s in suspects if bool(torch.isfinite(s.before).all())}


def group_kind(constraint: Projection, parameter: torch.Tensor) -> type[Group]:
    """Return the kind of group that projects parameters like this one."""
    if is_checked(constraint):
        return CheckedGroup
    return ShardedGroup if is_sharded(parameter) else Group
