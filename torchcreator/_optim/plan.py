"""What is projected after a step, worked out once: groups that one batched call serves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from torchcreator._errors import ConstraintError, TorchCreatorError
from torchcreator._optim.groups import Constrained, Group, Seen, group_kind
from torchcreator._spec.live_modules import full_name
from torchcreator._torch.dtensor import is_sharded
from torchcreator.constraints import _shards
from torchcreator.constraints._base import Projection, as_projection, misfit


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
            name, p, constraint = member
            objection = as_projection(constraint).objection(p)
            if objection is None:
                yield member
            else:
                self.failures.append(misfit(constraint, p, full_name(p, name), objection))

    def _group(
        self, constraint: Projection, members: Sequence[Constrained], earlier: Sequence[Plan]
    ) -> Group:
        kind = group_kind(constraint, members[0].parameter)
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
                    failures += self._project(group, due)
                group.remember(due)
        _raise(failures)

    def _project(self, group: Group, due: list[torch.Tensor]) -> list[ConstraintError]:
        return group.project(due)

    def forget(self) -> None:
        """Take every parameter that has a gradient for written, whatever its version says."""
        for seen in self.seen.values():
            seen.forgotten = True

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
            layout = p.device_mesh if is_sharded(p) else shape
            key = (_identity(constraint), p.dtype, p.device, layout)
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
    held = [_shards.local(p) for p in parameters]
    before = [w.clone() for w in held]
    failures = group.project(parameters)
    for w, old in zip(held, before, strict=True):
        skipped = found_inf.to(w.device, non_blocking=True).bool()
        w.copy_(torch.where(skipped, old, w))
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
