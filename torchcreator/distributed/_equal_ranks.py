"""Keep tools that take all ranks for equal from drawing shared values apart.

A norm over all gradients, or a search for infinities in them, has the same result on all ranks
where all gradients are shared. With values per rank it has not: each rank would clip by a factor of
its own, or skip a step alone.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from functools import partial

import torch
import torch.distributed as dist
from torch.utils.hooks import RemovableHandle
from typing_extensions import TypeIs

from torchcreator._access.collectives import World, told_apart
from torchcreator._torch.dtensor import is_sharded
from torchcreator._torch.hosts import at_end_of_backward, current_graph_task
from torchcreator._torch.tensors import version
from torchcreator.distributed._policy import FIRST, Managed


class EqualRanks:
    """What the shared gradients of one model were after their reduction.

    Args:
        world: The ranks that share them.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._own: list[torch.Tensor] = []
        self._shared: list[Managed] = []
        self._reduced: dict[int, tuple[int, int]] = {}
        self._synchronises: Callable[[], bool] | None = None
        self._arrivals: list[RemovableHandle] = []
        self._task = -1

    def follow(self, synchronises: Callable[[], bool]) -> None:
        """Find out by itself when a backward has been reduced, by a host that says nothing.

        Args:
            synchronises: Returns whether the host reduces what the running backward brings.
        """
        self._synchronises = synchronises

    def take(self, managed: list[Managed]) -> None:
        """Take notice of what the model has now; without trained values per rank there is nothing.

        A variable with a process group of its own is not one value on all ranks either.
        """
        trained = [m for m in managed if m.parameter.requires_grad]
        self._own = [m.parameter for m in trained if m.per_rank]
        shared = [m for m in trained if not (m.per_rank or m.has_own_group)]
        both = self._own and self._world.size > 1
        # Where it can be helped, what is the first rank's alone hears of no other's infinities.
        self._shared = sorted(shared, key=lambda m: m.aggregation is FIRST) if both else []
        self._reduced = {}
        self.remove()
        if self._synchronises is not None:
            # FSDP2 runs these too, when it has put a shard's gradient in its place.
            hook = partial(_on_arrival, weakref.ref(self))
            self._arrivals = [
                m.parameter.register_post_accumulate_grad_hook(hook) for m in self._shared
            ]

    def remove(self) -> None:
        """Take the hooks away."""
        for arrival in self._arrivals:
            arrival.remove()
        self._arrivals = []

    def __bool__(self) -> bool:
        """Return whether there are both, values per rank and shared ones, to train."""
        return bool(self._shared)

    def on_arrival(self) -> None:
        """Take notice of a backward that the host reduces."""
        if self._synchronises is None or self._synchronises():
            self.when_reduced()

    def when_reduced(self) -> None:
        """Arrange once a backward for what is done when all of it has been reduced."""
        task = current_graph_task()
        if self and task != self._task:
            # A host puts what it has reduced where it belongs at the very end too, and says so
            # later than this, a DDP with a static graph after one turn more: with two, it has.
            then = partial(at_end_of_backward, self.after_backward)
            at_end_of_backward(partial(at_end_of_backward, then))
        self._task = task

    @torch.no_grad()
    def after_backward(self) -> None:
        """Let a NaN or an infinity in one rank's own gradients show in a shared one, on all ranks.

        That is where a GradScaler, and whoever skips such a step, looks: all skip it or none. It
        costs a sum of one number, and no look at a device.
        """
        if not self._shared:
            return
        target = next(filter(_takes_a_mark, map(_of_this_rank, self._shared)), None)
        device = self._shared[0].parameter.device
        total = torch.zeros(1, device=device)
        for p in self._own:
            if _dense(p.grad):
                total += (p.grad * 0).sum().real.to(total)  # zero, or NaN
        with told_apart("The ranks' own gradients could not be looked at", self._world):
            dist.all_reduce(total, group=self._world.group)
        if target is not None:
            target.view(-1)[:1].add_(total.to(target))
        self._reduced = {id(m.parameter): _state(m.parameter.grad) for m in self._shared}

    @torch.no_grad()
    def before_step(self, keys: frozenset[int]) -> None:
        """Make gradients equal again that somebody has scaled by a factor of each rank's own.

        Not those in shards: torch takes their norm over all ranks.
        """
        ours = [m for m in self._shared if id(m.parameter) in keys and not is_sharded(m.parameter)]
        if not ours or not self._reduced:
            return
        written = any(
            _state(m.parameter.grad) != self._reduced[id(m.parameter)]
            for m in ours
            if m.parameter.grad is not None
        )
        device = ours[0].parameter.device
        with told_apart("The shared gradients could not be compared", self._world):
            anywhere = torch.tensor([float(written)], device=device)
            dist.all_reduce(anywhere, group=self._world.group)
            if not anywhere.item():
                return
            apart = self._apart(ours)
            for m in apart:
                if m.parameter.grad is not None:
                    m.parameter.grad.div_(self._world.size)
                    dist.all_reduce(m.parameter.grad, group=self._world.group)
        self._reduced = {id(m.parameter): _state(m.parameter.grad) for m in self._shared}
        if apart:
            _warn(apart)

    def _apart(self, ours: list[Managed]) -> list[Managed]:
        """Return those whose gradients are not the same on all ranks."""
        sums = torch.stack(
            [
                torch.zeros((), dtype=torch.float64, device=m.parameter.device)
                if m.parameter.grad is None
                else torch.view_as_real(m.parameter.grad).sum(dtype=torch.float64)
                if m.parameter.grad.is_complex()
                else m.parameter.grad.sum(dtype=torch.float64)
                for m in ours
            ]
        ).nan_to_num()
        ends = torch.stack([sums, -sums])
        dist.all_reduce(ends, op=dist.ReduceOp.MAX, group=self._world.group)
        return [
            m for m, differs in zip(ours, (ends[0] != -ends[1]).tolist(), strict=True) if differs
        ]


def _on_arrival(reference: weakref.ref[EqualRanks], _: torch.Tensor) -> None:
    # Through a parameter's hooks the garbage collector does not always see.
    if (equal_ranks := reference()) is not None:
        equal_ranks.on_arrival()


def _of_this_rank(m: Managed) -> torch.Tensor | None:
    """Return a gradient, of one in shards this rank's."""
    gradient = m.parameter.grad
    return gradient.to_local() if gradient is not None and is_sharded(gradient) else gradient


def _takes_a_mark(gradient: torch.Tensor | None) -> TypeIs[torch.Tensor]:
    return _dense(gradient) and gradient.numel() > 0


def _dense(gradient: torch.Tensor | None) -> TypeIs[torch.Tensor]:
    return gradient is not None and gradient.layout is torch.strided


def _state(gradient: torch.Tensor | None) -> tuple[int, int]:
    """Return what changes when a gradient is written or exchanged."""
    return (0, 0) if gradient is None else (id(gradient), version(gradient))


def _warn(apart: list[Managed]) -> None:
    more = f" and {len(apart) - 1} more" if len(apart) > 1 else ""
    warnings.warn(
        f"The gradient of {apart[0].name!r}{more} differed between ranks before an optimizer's "
        "step, though the variable is one value on all of them, and was averaged once more.\n"
        "Each rank has scaled it by a factor of its own: a norm over all gradients, those of "
        "values per rank included, is another one on each rank.\n"
        "Clip with torchcreator.distributed.clip_grad_norm_(model, max_norm), whose norm is the "
        "same on all ranks.",
        stacklevel=2,
    )
