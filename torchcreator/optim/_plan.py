"""What is projected after a step, worked out once: groups that one batched call serves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import attrgetter, is_
from typing import NamedTuple

import torch

from torchcreator import _private
from torchcreator._errors import ConstraintError, TorchCreatorError, VariableTypeError
from torchcreator._types import Constraint
from torchcreator.constraints._base import Projection, check
from torchcreator.constraints._compose import as_projection, is_checked

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

    __slots__ = ("parameter", "version")

    def __init__(self, parameter: torch.Tensor) -> None:
        self.parameter = parameter
        self.version = -1


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

    def due(self) -> list[torch.Tensor]:
        """Return the parameters that had a gradient and were written since their projection."""
        if self.seen is not None:
            return [
                p
                for p, seen in zip(self.parameters, self.seen, strict=True)
                if p.grad is not None and seen.version != _private.version(p)
            ]
        # In C all the way: this is what a constraint costs beside its one kernel.
        if any(map(is_, map(_gradient, self.parameters), repeat(None))):
            return [p for p in self.parameters if p.grad is not None]
        return self.parameters

    def project(self, parameters: list[torch.Tensor]) -> list[ConstraintError]:
        """Project some of the parameters in place; return what went wrong."""
        self.constraint.project_(parameters)
        return []

    def remember(self) -> None:
        """Note that the parameters are as the constraint wants them."""
        for seen in self.seen or ():
            seen.version = _private.version(seen.parameter)


class CheckedGroup(Group):
    """Parameters whose constraint is a function that nobody has looked at before."""

    def project(self, parameters: list[torch.Tensor]) -> list[ConstraintError]:
        """Write each result that can be used, and return an error for each that cannot."""
        failures: list[ConstraintError] = []
        results: list[tuple[torch.Tensor, torch.Tensor]] = []
        for p in parameters:
            try:
                results.append((p, self.constraint.project(p.detach(), p.ndim)))
            except Exception as error:  # raised once the others are projected
                failures.append(self._named(p, error))
        spoiled = _spoiled(results)
        for p, result in results:
            if id(p) in spoiled:
                failures.append(self._not_finite(p))
            else:
                p.copy_(result)
        return failures

    def _named(self, p: torch.Tensor, error: Exception) -> ConstraintError:
        """Return an error that says which variable it is about."""
        name = self.names[id(p)]
        if isinstance(error, ConstraintError):
            what, why, instead = error.args
            return ConstraintError(f"Variable {name!r} cannot be constrained: {what}", why, instead)
        failure = ConstraintError(
            f"The constraint {self.constraint!r} of variable {name!r} raised "
            f"{type(error).__name__}: {error}",
            "The variable is left as the optimizer wrote it.",
            "Try the constraint on a tensor of its shape and dtype by hand.",
        )
        failure.__cause__ = error
        return failure

    def _not_finite(self, p: torch.Tensor) -> ConstraintError:
        return ConstraintError(
            f"The constraint {self.constraint!r} of variable {self.names[id(p)]!r} made NaN or "
            "infinity of finite values.",
            "The variable would be lost; it is left as the optimizer wrote it.",
            "Look for a division by zero: add an epsilon, or use torch.where.",
        )


def _spoiled(results: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> set[int]:
    """Return the ids of finite parameters whose result is not finite, with one look at a device.

    A run that has diverged already is not the constraint's fault. While a CUDA graph is captured
    nothing can be looked at.
    """
    if not results or (results[0][0].is_cuda and torch.cuda.is_current_stream_capturing()):
        return set()
    finite = torch.stack([torch.isfinite(result).all() for _, result in results]).tolist()
    suspects = [p for (p, _), fine in zip(results, finite, strict=True) if not fine]
    return {id(p) for p in suspects if bool(torch.isfinite(p).all())}


class Plan:
    """The groups of one optimizer, or of one call by hand.

    Args:
        members: The constrained parameters.
        earlier: Plans that may have projected some of them.
    """

    def __init__(self, members: Iterable[Constrained], earlier: Iterable[Plan] = ()) -> None:
        self.failures: list[TorchCreatorError] = []
        self.seen: dict[int, Seen] = {}
        known = list(earlier)
        self.groups = [
            self._group(constraint, batch, known)
            for constraint, batch in _batches(self._accepted(members))
        ]

    def _accepted(self, members: Iterable[Constrained]) -> Iterable[Constrained]:
        """Yield the members whose constraint is defined for them."""
        for member in members:
            try:
                check(member.constraint, member.parameter, member.name)
            except VariableTypeError as error:
                self.failures.append(error)
            else:
                yield member

    def _group(
        self, constraint: Projection, members: Sequence[Constrained], earlier: Sequence[Plan]
    ) -> Group:
        kind = CheckedGroup if is_checked(constraint) else Group
        if constraint.idempotent:
            return kind(constraint, members, None)
        return kind(constraint, members, [self._record(m.parameter, earlier) for m in members])

    def _record(self, parameter: torch.Tensor, earlier: Sequence[Plan]) -> Seen:
        """Return the record of a parameter: the one that another plan keeps, or a new one."""
        for plan in earlier:
            seen = plan.seen.get(id(parameter))
            if seen is not None and seen.parameter is parameter:
                break
        else:
            seen = Seen(parameter)
        self.seen[id(parameter)] = seen
        return seen

    def after_step(self, found_inf: torch.Tensor | None) -> None:
        """Project what the step wrote.

        Args:
            found_inf: Set by a GradScaler while a fused optimizer decides for itself whether to
                step; not zero where it did not.
        """
        if found_inf is not None and not found_inf.is_cuda and bool(found_inf):
            return
        failures = list(self.failures)
        with torch.no_grad():
            for group in self.groups:
                due = group.due()
                if due and found_inf is not None and found_inf.is_cuda:
                    failures += _unless(found_inf, group, due)
                elif due:
                    failures += group.project(due)
                group.remember()
        _raise(failures)

    def everything(self) -> None:
        """Project every parameter, whether or not it was written."""
        failures = list(self.failures)
        with torch.no_grad():
            for group in self.groups:
                failures += group.project(group.parameters)
        _raise(failures)


def _batches(
    members: Iterable[Constrained],
) -> Iterable[tuple[Projection, list[Constrained]]]:
    """Return the members together that one call can project."""
    batches: dict[object, tuple[Projection, list[Constrained]]] = {}
    for member in members:
        p, constraint = member.parameter, as_projection(member.constraint)
        if p.numel():
            shape = p.shape if constraint.by_shape else None
            key = (_identity(constraint), p.dtype, p.device, shape)
            batches.setdefault(key, (constraint, []))[1].append(member)
    return batches.values()


def _identity(constraint: Projection) -> object:
    """Return a key by which equal constraints are one group."""
    try:
        hash(constraint)
    except TypeError:
        return id(constraint)
    return constraint


def _unless(
    found_inf: torch.Tensor, group: Group, parameters: list[torch.Tensor]
) -> list[ConstraintError]:
    """Project, and undo it on the device where ``found_inf`` is not zero: no synchronisation."""
    before = [p.clone() for p in parameters]
    failures = group.project(parameters)
    for p, old in zip(parameters, before, strict=True):
        skipped = found_inf.to(p.device, non_blocking=True).bool()
        p.copy_(torch.where(skipped, old, p))
    return failures


def _raise(failures: Sequence[TorchCreatorError]) -> None:
    """Raise the first of the failures, and count the others."""
    if failures:
        first, *others = failures
        if others:
            what, why, instead = first.args
            more = f" {len(others)} more variables of this step failed too."
            raise type(first)(what, why + more, instead) from first
        raise first
