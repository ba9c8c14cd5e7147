"""Who reduces which parameter's gradient: the one record that hosts write and optimizers ask."""

from __future__ import annotations

import weakref
from collections.abc import Collection
from typing import Protocol

import torch


class Owner(Protocol):
    """One who reduces the gradients of some parameters: a host of `torchcreator.distributed`."""

    def owns(self, parameter: torch.Tensor) -> bool:
        """Return whether it is this one who reduces a parameter's gradient."""
        ...

    def look(self) -> Collection[torch.Tensor]:
        """Take notice of what has changed in the model, and return what it owns since now."""
        ...

    def came_past(self, keys: frozenset[int]) -> Collection[str]:
        """Return the names of its parameters, by their ids, whose gradient did not pass it."""
        ...

    def before_step(self, keys: frozenset[int]) -> None:
        """Make sure that its parameters, by their ids, have equal gradients on all ranks."""
        ...

    def refuse_step_in_backward(self, parameter: torch.Tensor) -> None:
        """Raise if the gradient of its parameter is not reduced before the backward's end."""
        ...


_owners: weakref.WeakSet[Owner] = weakref.WeakSet()
_epoch = 0


def owners() -> tuple[Owner, ...]:
    """Return all owners there are."""
    return tuple(_owners)


def owner_of(parameter: torch.Tensor) -> Owner | None:
    """Return who reduces a parameter's gradient; None where nobody of ours does."""
    return next((owner for owner in owners() if owner.owns(parameter)), None)


def register(owner: Owner) -> None:
    """Let an owner be found, for as long as somebody keeps it."""
    _owners.add(owner)
    announce_change()


def unregister(owner: Owner) -> None:
    """Let an owner be found no more."""
    _owners.discard(owner)
    announce_change()


def announce_change() -> None:
    """Tell optimizers that somebody owns more or less than before."""
    global _epoch
    _epoch += 1


def epoch() -> int:
    """Return a number that rises whenever somebody owns more or less than before."""
    return _epoch
