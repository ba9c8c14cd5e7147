"""Reduce the gradients of parameters that no other host reduces, while backward still runs.

Gradients are collected in buckets in the order in which a backward usually makes them. A full
bucket starts to travel at once, and before ``backward()`` returns all have arrived.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.distributed as dist
from torch.utils.hooks import RemovableHandle

from torchcreator._access.collectives import World, told_apart
from torchcreator._errors import VariableTypeError
from torchcreator._torch.hosts import (
    at_end_of_backward,
    current_graph_task,
    inside_of,
)
from torchcreator._torch.tensors import (
    flattened,
    set_accumulation_hooks,
)
from torchcreator.distributed._arrivals import ArrivalSet, Came, Factor, node_of
from torchcreator.distributed._equal_ranks import EqualRanks
from torchcreator.distributed._policy import Managed, narrower
from torchcreator.distributed._transfer import Bucket, Transfer, buckets_of, dense, receive


@dataclass(eq=False)
class _Backward:
    """What one backward has brought so far. It dies with it, also where the backward raises."""

    arrived: set[int] = field(default_factory=set)
    waiting: list[int] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)


@dataclass(frozen=True, eq=False, slots=True)
class _Hooked:
    """A parameter with our hook, and what was inside it then, kept alive by its node."""

    managed: Managed
    handle: RemovableHandle
    inside: int
    node: object

    @property
    def lost(self) -> bool:
        """Whether the hook is gone: `swap_tensors` takes it away."""
        return bool(inside_of(self.managed.parameter) != self.inside)


class Reducer:
    """Averages gradients over ranks at the end of every backward, by hooks on the parameters.

    Args:
        world: The ranks of those that name no group of their own.
        wire: The dtype in which gradients travel, where that is narrower than their own.
        after: What is done after each backward that has reduced.
    """

    def __init__(
        self, world: World, wire: torch.dtype | None, *, after: EqualRanks | None = None
    ) -> None:
        self._after = after
        self._world = world
        self._wire = wire
        self._buckets: list[Bucket] = []
        self._number: dict[int, int] = {}  # of the bucket, by the parameter's id
        self._hooked: dict[int, _Hooked] = {}
        self._parameters: list[torch.Tensor] = []
        self._inside: list[int] = []
        self._arrivals = ArrivalSet()
        self._unsent: set[int] = set()  # brought by a backward that was not to synchronise
        self._came = Came()
        self.synchronises = True
        """Whether a backward reduces what it brings, as far as `no_sync` says nothing else."""
        self._held_back = False
        # The engine holds each backward's finish(), and that holds its state; when the engine
        # drops a backward half-way, the state goes too.
        self._running: weakref.WeakValueDictionary[int, _Backward] = weakref.WeakValueDictionary()
        self._latest: tuple[int, Callable[[], _Backward | None]] = (-1, lambda: None)

    def __len__(self) -> int:
        return len(self._hooked)

    def take(self, managed: list[Managed]) -> None:
        """Reduce the gradients of these parameters from now on, and of no others.

        What a parameter has brought already and not sent yet is sent by the next backward.
        """
        many = [m for m in managed if m.world(self._world).size > 1]
        wanted = {id(m.parameter): m for m in many}
        for key in self._hooked.keys() - wanted.keys():
            self._hooked.pop(key).handle.remove()
            self._unsent.discard(key)
            self._came.discard(key)
        self._buckets = buckets_of(many, self._world)
        self._number = {
            id(m.parameter): number
            for number, bucket in enumerate(self._buckets)
            for m in bucket.members
        }
        self._arrivals.take(Factor(m, m.world(self._world)) for m in many)
        for key, m in wanted.items():
            hooked = self._hooked.get(key)
            if hooked is not None and hooked.lost:
                set_accumulation_hooks(m.parameter, None)  # or torch adds to what runs no more
                hooked = None
            if hooked is None:
                self._hooked[key] = self._hook(m)
        self._parameters = [hooked.managed.parameter for hooked in self._hooked.values()]
        self._inside = list(map(inside_of, self._parameters))

    def lost(self) -> bool:
        """Return whether a parameter has lost its hook, as `swap_tensors` makes it."""
        return self._inside != list(map(inside_of, self._parameters))

    def renew(self) -> None:
        """Put back the factors that a conversion has taken away."""
        self._arrivals.renew()

    def came_past(self, keys: frozenset[int]) -> list[int]:
        """Return those of the parameters, by their ids, whose gradient did not pass here.

        A gradient that was not brought by a backward, but set by hand, is none of those.
        """
        came = self._came.until_step()
        if len(came) == len(self._hooked):  # all there are
            return []
        missing = (keys & self._hooked.keys()) - came
        if not any(self._hooked[key].managed.parameter.grad is not None for key in missing):
            return []
        lost = [key for key in missing if self._hooked[key].lost]
        return [*lost, *missing.intersection(self._arrivals.renew())]

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Let backwards in the block accumulate on this rank only."""
        before, self._held_back = self._held_back, True
        try:
            yield
        finally:
            self._held_back = before

    def remove(self) -> None:
        """Take the hooks away."""
        self.take([])

    def _hook(self, m: Managed) -> _Hooked:
        """Register what runs when a parameter has its gradient."""
        # With 600 small parameters, what this does for each is most of what a step costs.
        key, name, arrivals = id(m.parameter), m.name, self._arrivals
        has_factor = key in arrivals

        def on_gradient(parameter: torch.Tensor) -> None:
            if has_factor:
                arrivals.confirm(key, name)
            if self._held_back or not self.synchronises:
                self._came.add(key)
                self._unsent.add(key)
                return
            task, latest = self._latest
            backward = latest() if task == current_graph_task() else None
            if backward is None:
                backward = self._backward()
            backward.arrived.add(key)
            number = self._number[key]
            backward.waiting[number] -= 1
            if not backward.waiting[number]:
                self._send_complete(backward)

        handle = m.parameter.register_post_accumulate_grad_hook(on_gradient)
        return _Hooked(m, handle, inside_of(m.parameter), node_of(m.parameter))

    def _backward(self) -> _Backward:
        """Return the state of the backward that is running, a nested one's included."""
        task = current_graph_task()
        backward = self._running.get(task)
        if backward is None:
            backward = _Backward(waiting=[len(bucket.members) for bucket in self._buckets])
            self._running[task] = backward
            at_end_of_backward(partial(self._finish, backward))
        self._latest = (task, weakref.ref(backward))
        return backward

    def _send_complete(self, backward: _Backward) -> None:
        """Send complete buckets in the order of their numbers, which is the same on all ranks."""
        for number in range(len(backward.transfers), len(self._buckets)):
            if backward.waiting[number]:
                break
            self._send(backward, self._buckets[number])

    @torch.no_grad()
    def _send(self, backward: _Backward, bucket: Bucket) -> None:
        """Start the sum of one bucket, divided beforehand."""
        brought = backward.arrived | self._unsent
        for m in bucket.members:
            if m.parameter.grad is None and id(m.parameter) in brought:
                raise stepped_in_backward(m.name)
        gradients = [m.parameter.grad for m in bucket.members]
        present = [
            gradient is not None and id(m.parameter) in brought
            for m, gradient in zip(bucket.members, gradients, strict=True)
        ]
        parts = [dense(m, g) for m, g in zip(bucket.members, gradients, strict=True)]
        counts = torch.tensor(present, dtype=parts[0].dtype).to(parts[0].device)
        flat = flattened([*parts, counts])
        flat.mul_(1.0 / bucket.world.size)
        if narrower(self._wire, flat.dtype):
            flat = flat.to(self._wire)
        with told_apart(_REDUCTION, bucket.world):
            work = dist.all_reduce(flat, group=bucket.world.group, async_op=True)
        backward.transfers.append(Transfer(bucket, flat, work, missing=not all(present)))

    @torch.no_grad()
    def _finish(self, backward: _Backward) -> None:
        """Send what is left, wait, and put the means where the gradients are."""
        for bucket in self._buckets[len(backward.transfers) :]:
            self._send(backward, bucket)
        for transfer in backward.transfers:
            with told_apart(_REDUCTION, transfer.bucket.world):
                transfer.work.wait()
        # Only now, when nothing can fail any more: until here the gradients are this rank's own.
        for transfer in backward.transfers:
            receive(transfer)
        self._came.add(*backward.arrived)
        if self._after is not None:
            self._after.after_backward()
        self._unsent.clear()


_REDUCTION = "The gradients could not be reduced"


def stepped_in_backward(name: str) -> VariableTypeError:
    """Return what to raise where a gradient is used before it has been reduced."""
    return VariableTypeError(
        f"Variable {name!r} is stepped by an optimizer inside the backward.",
        "That reads and drops each gradient before the ranks' are brought together.",
        "Step the optimizer after backward().",
    )
