"""Reduce the gradients of parameters that no other host reduces, while backward still runs.

Gradients are collected in buckets in the order in which a backward usually makes them. A full
bucket starts to travel at once, and before ``backward()`` returns all have arrived.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from torchcreator import _private
from torchcreator._collectives import World, told_apart
from torchcreator._errors import DistributedError
from torchcreator.distributed._arrivals import ArrivalSet
from torchcreator.distributed._policy import Managed, narrower

_CAPACITY = 25 * 1024 * 1024  # bytes in a bucket, as in DDP


@dataclass(eq=False)
class Bucket:
    """Parameters whose gradients travel together: of one world, device and dtype."""

    world: World
    members: list[Managed] = field(default_factory=list)
    bytes: int = 0


@dataclass(eq=False)
class _Transfer:
    """One bucket on its way: the flat gradients, and a count per parameter behind them."""

    bucket: Bucket
    flat: torch.Tensor
    work: Any
    missing: bool


@dataclass(eq=False)
class _Backward:
    """What one backward has brought so far. It dies with it, also where the backward raises."""

    arrived: set[int] = field(default_factory=set)
    waiting: list[int] = field(default_factory=list)
    transfers: list[_Transfer] = field(default_factory=list)


class Reducer:
    """Averages gradients over ranks at the end of every backward, by hooks on the parameters.

    Args:
        managed: The parameters; each is reduced over its own world.
        world: The default one.
        wire: The dtype in which gradients travel, where that is narrower than their own.
        arrivals: The factors by which a transport by MEAN carries the policies out.
    """

    def __init__(
        self,
        managed: list[Managed],
        world: World,
        *,
        wire: torch.dtype | None,
        arrivals: ArrivalSet,
    ) -> None:
        self._buckets = _buckets(managed, world)
        self._wire = wire
        self._arrivals = arrivals
        self._place = {
            id(m.parameter): i for i, bucket in enumerate(self._buckets) for m in bucket.members
        }
        self._names = {id(m.parameter): m.name for m in managed}
        self._unsent: set[int] = set()  # brought by a backward that was not to synchronise
        self._synchronises = True
        # The engine holds each backward's finish(), and that holds its state; when the engine
        # drops a backward half-way, the state goes too.
        self._running: weakref.WeakValueDictionary[int, _Backward] = weakref.WeakValueDictionary()
        self._hooks = [
            m.parameter.register_post_accumulate_grad_hook(self._on_gradient)
            for bucket in self._buckets
            for m in bucket.members
        ]

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Let backwards in the block accumulate on this rank only."""
        before, self._synchronises = self._synchronises, False
        try:
            yield
        finally:
            self._synchronises = before

    def remove(self) -> None:
        """Take the hooks away."""
        for hook in self._hooks:
            hook.remove()

    def _on_gradient(self, parameter: torch.Tensor) -> None:
        key = id(parameter)
        self._arrivals.confirm(key, self._names[key])
        if not self._synchronises:
            self._unsent.add(key)
            return
        backward = self._backward()
        backward.arrived.add(key)
        backward.waiting[self._place[key]] -= 1
        while (number := len(backward.transfers)) < len(self._buckets):
            # In order of their numbers, on all ranks, whichever is complete first.
            if backward.waiting[number]:
                break
            self._send(backward, self._buckets[number])

    def _backward(self) -> _Backward:
        """Return the state of the backward that is running, a nested one's included."""
        task = _private.current_graph_task()
        backward = self._running.get(task)
        if backward is None:
            backward = _Backward(waiting=[len(bucket.members) for bucket in self._buckets])
            self._running[task] = backward
            _private.at_end_of_backward(partial(self._finish, backward))
        return backward

    @torch.no_grad()
    def _send(self, backward: _Backward, bucket: Bucket) -> None:
        """Start the sum of one bucket, divided beforehand."""
        brought = backward.arrived | self._unsent
        present = [
            m.parameter.grad is not None and id(m.parameter) in brought for m in bucket.members
        ]
        # Without a gradient, zeros; with one from earlier backwards, that one: its mean is itself.
        parts = [_dense(m).reshape(-1) for m in bucket.members]
        counts = torch.tensor(present, dtype=parts[0].dtype).to(parts[0].device)
        flat = torch.cat([*parts, counts])
        flat.mul_(1.0 / bucket.world.size)
        if narrower(self._wire, flat.dtype):
            flat = flat.to(self._wire)
        with told_apart(_REDUCTION, bucket.world):
            work = dist.all_reduce(flat, group=bucket.world.group, async_op=True)
        backward.transfers.append(_Transfer(bucket, flat, work, missing=not all(present)))

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
            _receive(transfer)
        self._unsent.clear()


_REDUCTION = "The gradients could not be reduced"


def _buckets(managed: list[Managed], world: World) -> list[Bucket]:
    """Distribute parameters over buckets, from the last to the first."""
    buckets: list[Bucket] = []
    filling: dict[tuple[object, ...], Bucket] = {}
    for m in reversed(managed):
        own = m.world(world)
        if own.size == 1:
            continue
        key = (own, m.parameter.device, m.parameter.dtype)
        bucket = filling.get(key)
        if bucket is None or bucket.bytes >= _CAPACITY:
            bucket = filling[key] = Bucket(own)
            buckets.append(bucket)
        bucket.members.append(m)
        bucket.bytes += m.parameter.nbytes
    return buckets


def _dense(m: Managed) -> torch.Tensor:
    """Return a parameter's gradient, or zeros where it has none."""
    gradient = m.parameter.grad
    if gradient is None:
        return torch.zeros_like(m.parameter)
    if gradient.layout is not torch.strided:
        raise DistributedError(
            f"The gradient of variable {m.name!r} is sparse.",
            "aggregate_gradients() flattens the gradients of a plain module into buckets.",
            "Build the embedding with sparse=False, or wrap the model with data_parallel().",
        )
    return gradient.detach()


def _receive(transfer: _Transfer) -> None:
    """Copy the reduced gradients of one bucket to where they belong."""
    members = transfer.bucket.members
    sizes = [m.parameter.numel() for m in members]
    *pieces, counts = transfer.flat.split([*sizes, len(members)])
    # The counts are only read where something was missing: on CUDA that waits for the device.
    used = (counts != 0).tolist() if transfer.missing else [True] * len(members)
    gradients, means = [], []
    for m, piece, anywhere in zip(members, pieces, used, strict=True):
        if not anywhere:
            continue  # no rank has a gradient: what was None stays None
        if m.parameter.grad is None:
            m.parameter.grad = torch.empty_like(m.parameter)
        gradients.append(m.parameter.grad)
        means.append(piece.view(m.parameter.shape))
    if gradients:
        torch._foreach_copy_(gradients, means)
