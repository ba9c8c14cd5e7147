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
from typing import Any

import torch
import torch.distributed as dist

from torchcreator._access.collectives import World, told_apart
from torchcreator._errors import DistributedError
from torchcreator._torch.hosts import at_end_of_backward, current_graph_task
from torchcreator._torch.tensors import flattened, foreach_copy_, unflattened
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
        self._unsent: set[int] = set()  # brought by a backward that was not to synchronise
        self._synchronises = True
        # The engine holds each backward's finish(), and that holds its state; when the engine
        # drops a backward half-way, the state goes too.
        self._running: weakref.WeakValueDictionary[int, _Backward] = weakref.WeakValueDictionary()
        self._latest: tuple[int, Callable[[], _Backward | None]] = (-1, lambda: None)
        self._hooks = [
            m.parameter.register_post_accumulate_grad_hook(self._hook(m, number))
            for number, bucket in enumerate(self._buckets)
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

    def _hook(self, m: Managed, number: int) -> Callable[[torch.Tensor], None]:
        """Return what runs when a parameter of one bucket has its gradient."""
        # With 600 small parameters, what this does for each is most of what a step costs.
        key, name, arrivals, has_factor = (
            id(m.parameter),
            m.name,
            self._arrivals,
            m in self._arrivals,
        )

        def on_gradient(parameter: torch.Tensor) -> None:
            if has_factor:
                arrivals.confirm(key, name)
            if not self._synchronises:
                self._unsent.add(key)
                return
            task, latest = self._latest
            backward = latest() if task == current_graph_task() else None
            if backward is None:
                backward = self._backward()
            backward.arrived.add(key)
            backward.waiting[number] -= 1
            if not backward.waiting[number]:
                self._send_complete(backward)

        return on_gradient

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
        gradients = [m.parameter.grad for m in bucket.members]
        present = [
            gradient is not None and id(m.parameter) in brought
            for m, gradient in zip(bucket.members, gradients, strict=True)
        ]
        parts = [_dense(m, g) for m, g in zip(bucket.members, gradients, strict=True)]
        counts = torch.tensor(present, dtype=parts[0].dtype).to(parts[0].device)
        flat = flattened([*parts, counts])
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


def _dense(m: Managed, gradient: torch.Tensor | None) -> torch.Tensor:
    """Return a parameter's gradient, or zeros where it has none.

    A gradient from earlier backwards travels too: it is reduced already, so its mean is itself.
    """
    if gradient is None:
        return torch.zeros_like(m.parameter)
    if gradient.layout is not torch.strided:
        raise DistributedError(
            f"The gradient of variable {m.name!r} is sparse.",
            "aggregate_gradients() flattens the gradients of a plain module into buckets.",
            "Build the embedding with sparse=False, or wrap the model with data_parallel().",
        )
    return gradient


def _receive(transfer: _Transfer) -> None:
    """Copy the reduced gradients of one bucket to where they belong."""
    parameters: list[torch.Tensor] = [m.parameter for m in transfer.bucket.members]
    counts = transfer.flat[-len(parameters) :]
    means = unflattened(transfer.flat, parameters)
    if transfer.missing:
        # Read only here: on CUDA that waits for the device.
        used = [i for i, count in enumerate(counts.tolist()) if count]
        parameters, means = [parameters[i] for i in used], [means[i] for i in used]
        for parameter in parameters:
            # Where no rank has a gradient, what was None stays None.
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if gradients:
        foreach_copy_(gradients, tuple(means))
