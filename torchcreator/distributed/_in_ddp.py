"""The transport of a model in ``DistributedDataParallel``."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchcreator._access.collectives import World
from torchcreator._errors import DistributedError
from torchcreator._optim.audit import refuse_overlap
from torchcreator._torch.hosts import joins_unevenly, overlapping_optimizer, steps_in_backward
from torchcreator.distributed._arrivals import ArrivalSet, Factor
from torchcreator.distributed._equal_ranks import EqualRanks
from torchcreator.distributed._join import count_in_join
from torchcreator.distributed._policy import Managed, reduced, survey


class HeldByDDP:
    """What is so of every DDP.

    Args:
        ddp: The DDP.
        managed: The parameters that it does not ignore.
    """

    def __init__(self, ddp: DistributedDataParallel, managed: Iterable[Managed]) -> None:
        # Weak, or a hook would keep the DDP alive that keeps the hook.
        self._ddp = weakref.ref(ddp)
        # What it reduces it has decided when it wrapped the model.
        self._held = {id(m.parameter): m for m in reduced(managed)}

    def holds(self, parameter: torch.Tensor) -> bool:
        """Return whether DDP reduces a parameter's gradient."""
        return id(parameter) in self._held

    def survey(self, model: nn.Module) -> list[Managed]:
        """Return the parameters of the model that is wrapped."""
        assert isinstance(model, DistributedDataParallel)
        return survey(model.module)

    def synchronises(self) -> bool:
        """Return whether the backward of the forward that begins reduces what it brings."""
        ddp = self._ddp()
        return ddp is None or bool(ddp.require_backward_grad_sync)

    def no_sync(self) -> AbstractContextManager[object]:
        """Let backwards in the block accumulate on this rank only."""
        ddp = self._ddp()
        if ddp is None:
            return contextlib.nullcontext()
        context: AbstractContextManager[object] = ddp.no_sync()
        return context


def refuse_held_back(ddp: DistributedDataParallel) -> None:
    """Raise where gradients would wait for ranks of which some may be gone by then.

    Raises:
        DistributedError: They would.
    """
    if not ddp.require_backward_grad_sync:
        raise DistributedError(
            "A forward in no_sync() inside join(divide_by_initial_world_size=False).",
            "A sum is scaled by the number of ranks when it arrives, and that may be another one "
            "by the time it is sent.",
            "Leave no_sync() out, or divide_by_initial_world_size=False.",
        )


class InDDP(HeldByDDP):
    """A DDP that goes on averaging: factors on what arrives, and its hook stays free."""

    ours = False
    """Whether `data_parallel` made the DDP."""

    def __init__(
        self, ddp: DistributedDataParallel, managed: Iterable[Managed], world: World
    ) -> None:
        super().__init__(ddp, managed)
        self._world = world
        self._arrivals = ArrivalSet()
        self._present: Callable[[], int] = lambda: world.size

    @property
    def final_in_backward(self) -> bool:
        """Whether DDP steps parameters itself, once they are reduced."""
        return any(steps_in_backward(m.parameter) for m in self._held.values())

    def take(self, managed: list[Managed]) -> None:
        """Put factors on the parameters that need one."""
        self._arrivals.take(Factor(m, self._world, lambda: self._present()) for m in managed)

    def look(self) -> bool:
        """Put back what a conversion has taken away, and see who takes part in this forward."""
        self._arrivals.renew()
        ddp = self._ddp()
        if ddp is not None and (optimizer := overlapping_optimizer(ddp)) is not None:
            refuse_overlap([p for group in optimizer.param_groups for p in group["params"]])
        if ddp is not None and joins_unevenly(ddp):
            refuse_held_back(ddp)
            self._present = count_in_join(ddp)
        else:
            self._present = lambda: self._world.size
        return False

    def after(self, equal_ranks: EqualRanks) -> EqualRanks | None:
        """Let it find out by itself: the end of a backward is the host's."""
        equal_ranks.follow(self.synchronises)
        return None

    def came_past(self, keys: frozenset[int]) -> list[int]:
        """Return those of the parameters, by their ids, whose gradient missed its factor."""
        return self._arrivals.came_past(keys)

    def remove(self) -> None:
        """Let DDP average."""
        self._arrivals.remove()


class UnderHook(InDDP):
    """The same of a DDP that `data_parallel` made, and gave a communication hook of others'."""

    ours = True
