"""Data parallelism on ``DistributedDataParallel``, with a policy per parameter."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchcreator import _private
from torchcreator._collectives import World
from torchcreator._errors import DistributedError
from torchcreator.distributed._arrivals import Arrival, Gradients
from torchcreator.distributed._policy import FIRST, SUM, Managed, narrower

if TYPE_CHECKING:
    from torch._C._distributed_c10d import GradBucket


def wrap(
    model: nn.Module, managed: list[Managed], ignored: list[str], **ddp_kwargs: Any
) -> DistributedDataParallel:
    """Return the model in DDP, which neither broadcasts nor reduces what is ignored."""
    if not any(m.parameter.requires_grad for m in managed if not set(m.names) & set(ignored)):
        raise DistributedError(
            f"{type(model).__name__} has no parameter for DistributedDataParallel.",
            "All of its parameters are frozen, or have a value per rank or a process group of "
            "their own, and DDP refuses a module without any.",
            "Use aggregate_gradients(model) instead, which takes any module.",
        )
    known = set(getattr(model, "_ddp_params_and_buffers_to_ignore", ()))
    _private.ignore_in_ddp(model, sorted(known.union(ignored)))
    return DistributedDataParallel(model, **ddp_kwargs)


def spellings(managed: list[Managed]) -> Iterator[str]:
    """Yield every name under which DDP may look for one of these parameters in its ignore list."""
    for m in managed:
        for name in m.names:
            yield name
            if "." not in name:
                # DDP joins module and parameter name with a dot even where the module is the
                # root: without this spelling it still reduces, without the other it broadcasts.
                yield f".{name}"


def ignores(ddp: DistributedDataParallel, m: Managed) -> bool:
    """Return whether a DDP neither broadcasts nor reduces a parameter."""
    return ddp.parameters_to_ignore.issuperset(spellings([m]))


@dataclass(frozen=True)
class _Plan:
    """Which gradients of one bucket need what: positions in ``bucket.gradients()``."""

    averaged: list[int]
    silenced: list[int]
    summed: list[tuple[int, int]]
    plain: bool  # the whole bucket is averaged


class BucketReduction:
    """The comm hook of one DDP: scales each gradient in its bucket, then sums the bucket.

    MEAN and ONLY_FIRST_REPLICA may be scaled here, after accumulation: both leave a gradient that
    is already reduced as it is. SUM may not (it would sum it once more), so what a backward adds
    is multiplied by the world's size before it is accumulated, and the bucket averages. Where
    nothing was accumulated yet, which is nearly always, the prehook returns at once and the
    bucket sums: one empty Python call per summed parameter is all that SUM costs.
    """

    def __init__(
        self,
        ddp: DistributedDataParallel,
        managed: list[Managed],
        *,
        world: World,
        wire: torch.dtype | None,
    ) -> None:
        # Weak, or the hook would keep the DDP alive that keeps the hook.
        self._ddp = weakref.ref(ddp)
        self._world = world
        self._wire = wire
        self._policy = {id(m.parameter): m.aggregation for m in managed}
        self._plans: dict[tuple[int, ...], _Plan] = {}
        self._raw: set[int] = set()
        self._arrivals = [
            Arrival.at(m.parameter, self._on_arrival(m.parameter))
            for m in managed
            if m.aggregation is SUM and world.size > 1
        ]

    def _on_arrival(
        self, parameter: nn.Parameter
    ) -> Callable[[Gradients], tuple[torch.Tensor, ...] | None]:
        """Return the prehook of a summed parameter."""
        ddp, raw, key, size = self._ddp, self._raw, id(parameter), self._world.size

        def on_arrival(gradients: Gradients) -> tuple[torch.Tensor, ...] | None:
            gradient = gradients[0]
            if gradient is None:
                return None
            if parameter.grad is None:
                host = ddp()
                if host is not None and host.require_backward_grad_sync:
                    raw.add(key)
                    return None
                raw.discard(key)
            elif key in raw:  # the second arrival in one backward, under reentrant checkpointing
                return None
            return (gradient * size,)

        return on_arrival

    def reduce(self, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        """Scale and sum one bucket: DDP's communication hook."""
        buffer = bucket.buffer()
        plan = self._plan(bucket.parameters())
        if buffer.is_sparse:
            buffer = self._scale_sparse(buffer, plan)
        elif plan.plain:
            buffer.mul_(1.0 / self._world.size)
        else:
            self._scale(bucket.gradients(), plan)
        return _sum(buffer, self._world, self._wire)

    def _plan(self, parameters: list[torch.Tensor]) -> _Plan:
        # By identity: DDP rebuilds its buckets after the first backward.
        key = tuple(map(id, parameters))
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._new_plan(key)
        return plan

    def _new_plan(self, keys: tuple[int, ...]) -> _Plan:
        policies = [self._policy.get(key) for key in keys]
        first = [i for i, policy in enumerate(policies) if policy is FIRST]
        averaged = [i for i, policy in enumerate(policies) if policy not in (SUM, FIRST)]
        return _Plan(
            averaged=averaged,
            plain=len(averaged) == len(keys),
            silenced=[] if self._world.rank == 0 else first,
            summed=[(i, keys[i]) for i, policy in enumerate(policies) if policy is SUM],
        )

    def _scale(self, gradients: list[torch.Tensor], plan: _Plan) -> None:
        averaged = [gradients[i] for i in plan.averaged]
        for i, key in plan.summed:
            if key in self._raw:
                self._raw.remove(key)
            else:
                averaged.append(gradients[i])
        if averaged:
            torch._foreach_mul_(averaged, 1.0 / self._world.size)
        if plan.silenced:
            # Zeroed, not multiplied by zero: a NaN stays on the rank that made it.
            torch._foreach_zero_([gradients[i] for i in plan.silenced])

    def _scale_sparse(self, buffer: torch.Tensor, plan: _Plan) -> torch.Tensor:
        """Return the one sparse gradient of a bucket, scaled as `_scale` would in place."""
        if plan.silenced:
            return torch.zeros_like(buffer)  # a sparse tensor without any element
        raw = [key for _, key in plan.summed if key in self._raw]
        self._raw.difference_update(raw)
        if raw or (self._world.rank == 0 and not plan.averaged and not plan.summed):
            return buffer
        return buffer * (1.0 / self._world.size)


def _sum(
    buffer: torch.Tensor, world: World, wire: torch.dtype | None
) -> torch.futures.Future[torch.Tensor]:
    """Start the sum of a bucket over all ranks, in a narrower dtype if one is asked for."""
    sent = buffer.to(wire) if narrower(wire, buffer.dtype) else buffer
    work = dist.all_reduce(sent, group=world.group, async_op=True)

    def received(done: torch.futures.Future[object]) -> torch.Tensor:
        done.value()  # raises what went wrong
        return buffer if sent is buffer else buffer.copy_(sent)

    return work.get_future().then(received)  # type: ignore[no-any-return]


def install(
    ddp: DistributedDataParallel, managed: list[Managed], world: World, wire: torch.dtype | None
) -> BucketReduction:
    """Give a DDP the comm hook that carries the policies out, and return what has to be kept."""
    reduction = BucketReduction(ddp, managed, world=world, wire=wire)
    # DDP looks at the hook's annotations, and compares them as objects: a lambda has none.
    ddp.register_comm_hook(None, lambda state, bucket: reduction.reduce(bucket))
    return reduction
