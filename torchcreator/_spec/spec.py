"""What a variable was declared to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

import torchcreator
from torchcreator._errors import DistributedError
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator.constraints import picklable

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from torchcreator.constraints._base import Constraint


@dataclass(frozen=True)
class LostGroup:
    """Stands for a process group that was dropped when its variable was pickled."""

    name: str


class VariableSpec(NamedTuple):
    """What a variable was declared to be.

    Attributes:
        name: The name it was given, uniquified unless a module owns it.
        shape: Its shape, or None while that is unknown.
        dtype: Its dtype.
        trainable: Whether it was declared to have a gradient. It stays what it was declared as:
            what ``parameter.requires_grad_(...)`` made of it since, ``parameter.requires_grad``
            says.
        constraint: The projection applied after each optimizer step, or None.
        synchronization: When the values of several ranks are brought together.
        aggregation: How one value is made of the values of several ranks.
        caching_device: The device on which `read_value` keeps a copy, or None.
        process_group: The ranks concerned; None means the default group.
        tags: What the caller told the creators.
        validate_shape: False where the shape was allowed to be unknown.

    Example:
        >>> import torchcreator as tc
        >>> p = tc.variable([1.0, 2.0], name="gain", aggregation="sum")
        >>> tc.spec_of(p).aggregation
        <VariableAggregation.SUM: 'sum'>
    """

    name: str
    shape: torch.Size | None
    dtype: torch.dtype
    trainable: bool
    constraint: Constraint | None
    synchronization: VariableSynchronization
    aggregation: VariableAggregation
    caching_device: torch.device | None
    process_group: ProcessGroup | LostGroup | None
    tags: Mapping[str, Any]
    validate_shape: bool

    def __copy__(self) -> VariableSpec:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> VariableSpec:
        return self  # it never changes, and a process group cannot be copied

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, tuple(_portable(self))

    def inherited(self) -> VariableSpec:
        """Return the spec of a part that this variable was split into.

        Policies and tags hold for the parts of a normalised weight; its constraint does not.
        """
        return self._replace(constraint=None)

    def group(self) -> ProcessGroup | None:
        """Return the process group; None means the default one.

        Raises:
            DistributedError: The group was dropped when the variable was pickled.
        """
        if isinstance(self.process_group, LostGroup):
            raise DistributedError(
                f"The process group {self.process_group.name!r} of variable {self.name!r} is gone.",
                "A process group cannot be pickled, and the default group would be another one.",
                "Declare the one to use: with creator_scope(creators.declare(process_group=...)): "
                "recreate(model).",
            )
        return self.process_group


spec_from: Callable[[tuple[Any, ...]], VariableSpec] = partial(tuple.__new__, VariableSpec)
"""Make a spec of all its fields in their order, in half the time that its class takes."""


class _Announcement:
    """Tells whoever waits for it that the first variable of some kind exists."""

    def __init__(self) -> None:
        self.count = 0
        self.listeners: list[Callable[[], None]] = []

    def announce(self) -> None:
        self.count += 1
        while self.listeners:
            self.listeners.pop()()

    def listen(self, listener: Callable[[], None]) -> None:
        self.listeners.append(listener)
        if self.count:
            self.announce()


_constraints = _Announcement()
_policies = _Announcement()

announce_constraint = _constraints.announce
"""Tell whoever waits for it that a constrained variable is declared."""
announce_policy = _policies.announce
"""Tell whoever waits for it that a variable is declared that says something of several ranks."""
on_first_constraint = _constraints.listen
"""Call a function once, when the first constrained variable exists (now, if one does)."""
on_first_policy = _policies.listen
"""Call a function once, when the first variable with a policy exists (now, if one does)."""


def constraint_epoch() -> int:
    """Return a number that rises whenever a constrained variable is declared or loaded."""
    return _constraints.count


def policy_epoch() -> int:
    """Return a number that rises whenever a variable with a policy is declared or loaded."""
    return _policies.count


def _portable(spec: VariableSpec) -> VariableSpec:
    """Return a spec with the process group, which cannot be pickled, as its name."""
    picklable(spec.constraint, spec.name)
    group = spec.process_group
    if group is None or isinstance(group, LostGroup):
        return spec
    return spec._replace(process_group=LostGroup(str(getattr(group, "group_name", "?"))))


def _restored(*fields: Any) -> VariableSpec:
    spec = VariableSpec(*fields)
    # A process that only loads a model has imported nothing else of us, and its optimizer must
    # find constraint and policies all the same.
    assert torchcreator.apply_constraints is not None  # using the face loads what listens
    if spec.constraint is not None:
        announce_constraint()
    unspoken = (VariableSynchronization.AUTO, VariableAggregation.NONE, None)
    if (spec.synchronization, spec.aggregation, spec.process_group) != unspoken:
        announce_policy()
    return spec


# torch.load reads with weights_only by default; a parameter outside any module is saved with its
# spec.
torch.serialization.add_safe_globals(
    [_restored, LostGroup, VariableAggregation, VariableSynchronization]
)
