"""Who carries the gradients of a model to the other ranks: what is asked of a transport."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import nn

from torchcreator.distributed._equal_ranks import EqualRanks
from torchcreator.distributed._policy import Managed, survey


class Transport(Protocol):
    """Somebody else who brings gradients together: DDP, FSDP2, or nobody."""

    @property
    def ours(self) -> bool:
        """Whether `data_parallel` made it."""
        ...

    def holds(self, parameter: torch.Tensor) -> bool:
        """Return whether it reduces a parameter's gradient."""
        ...

    def survey(self, model: nn.Module) -> list[Managed]:
        """Return the parameters of the model as its optimizer holds them."""
        ...

    def take(self, managed: list[Managed]) -> None:
        """See to it that the gradients of these are reduced as they declare."""
        ...

    def look(self) -> bool:
        """Take notice of what has changed in the host; return whether `take` has to be called."""
        ...

    def synchronises(self) -> bool:
        """Return whether the next backward reduces what it brings."""
        ...

    def no_sync(self) -> AbstractContextManager[object]:
        """Let backwards in the block accumulate on this rank only."""
        ...

    def came_past(self, keys: frozenset[int]) -> list[int]:
        """Return those of the parameters, by their ids, whose gradient missed its factor."""
        ...

    @property
    def final_in_backward(self) -> bool:
        """Whether a gradient is reduced as soon as the parameter has it."""
        ...

    def after(self, equal_ranks: EqualRanks) -> EqualRanks | None:
        """Return what to do after a backward that reduced beside it, which it may do itself."""
        ...

    def remove(self) -> None:
        """Leave the host to what it does by itself."""
        ...


class Nobody:
    """The transport of a plain module: there is none."""

    ours = False
    final_in_backward = False

    def holds(self, parameter: torch.Tensor) -> bool:
        """Return False."""
        return False

    def survey(self, model: nn.Module) -> list[Managed]:
        """Return the parameters of the model."""
        return survey(model)

    def take(self, managed: list[Managed]) -> None:
        """Do nothing: it holds none."""

    def look(self) -> bool:
        """Return False: there is nothing to change."""
        return False

    def synchronises(self) -> bool:
        """Return True."""
        return True

    def no_sync(self) -> AbstractContextManager[object]:
        """Return a context that changes nothing."""
        return contextlib.nullcontext()

    def came_past(self, keys: frozenset[int]) -> list[int]:
        """Return an empty list: it holds none."""
        return []

    def after(self, equal_ranks: EqualRanks) -> EqualRanks | None:
        """Return it: there is nobody else to do it."""
        return equal_ranks

    def remove(self) -> None:
        """Do nothing."""
