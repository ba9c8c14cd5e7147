"""The communication hook that carries policies out in DDP's buckets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from torchcreator._access.collectives import World
from torchcreator._errors import DistributedError
from torchcreator._torch.hosts import (
    current_graph_task,
    joins,
    joins_unevenly,
)
from torchcreator._torch.tensors import foreach_mul_, foreach_zero_
from torchcreator.distributed._arrivals import Arrival, Came, Gradients, nodes
from torchcreator.distributed._equal_ranks import EqualRanks
from torchcreator.distributed._in_ddp import HeldByDDP, refuse_held_back
from torchcreator.distributed._policy import FIRST, SUM, Managed, narrower

if TYPE_CHECKING:
    from torchcreator._torch.hosts import GradBucket

_SMALL = 2048
"""Below so many elements a gradient, one product of the whole bucket is cheaper than one each."""


@dataclass(frozen=True)
class _Plan:
    """What the gradients of one bucket need.

    Attributes:
        uniform: Whether all of them are averaged.
        averaged: The positions of those that are.
        silenced: The positions of those of which this rank has nothing to say.
        summed: The positions of the summed ones, and the ids of their parameters.
        keys: Those ids.
        factors: Of a bucket of small gradients: what each element is multiplied with, where
            nothing summed was accumulated before.
        silent: Of such a bucket: which elements are zeroed, if any are.
    """

    uniform: bool
    averaged: list[int]
    silenced: list[int]
    summed: list[tuple[int, int]]
    keys: frozenset[int]
    factors: torch.Tensor | None
    silent: torch.Tensor | None


class BucketReduction(HeldByDDP):
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
        super().__init__(ddp, managed)
        self._world = world
        self._wire = wire
        self._came = Came()
        self._equal_ranks: EqualRanks | None = None
        self._nodes = dict(zip(self._held, nodes([m.parameter for m in managed]), strict=True))
        self._policy = {id(m.parameter): m.aggregation for m in managed}
        self._plans: dict[tuple[int, ...], _Plan] = {}
        self._raw: set[int] = set()
        self._arrivals = [
            Arrival.at(m.parameter, self._on_arrival(m))
            for m in managed
            if m.aggregation is SUM and world.size > 1
        ]

    def _on_arrival(self, m: Managed) -> Callable[[Gradients], tuple[torch.Tensor, ...] | None]:
        """Return the prehook of a summed parameter."""
        ddp, raw, size = self._ddp, self._raw, self._world.size
        key, parameter, name = id(m.parameter), m.parameter, m.name

        def on_arrival(gradients: Gradients) -> tuple[torch.Tensor, ...] | None:
            gradient = gradients[0]
            if gradient is None:
                return None
            host = ddp()
            if parameter.grad is None:
                if host is not None and host.require_backward_grad_sync:
                    raw.add(key)
                    return None
                raw.discard(key)
            elif key in raw:  # the second arrival in one backward, under reentrant checkpointing
                return None
            elif host is not None and joins_unevenly(host):
                raise _accumulated(name)
            return (gradient * size,)

        return on_arrival

    ours = True
    final_in_backward = False

    def take(self, managed: list[Managed]) -> None:
        """Do nothing: what DDP reduces is the same for ever."""

    def look(self) -> bool:
        """Return False: DDP itself does not survive a conversion of what it wraps."""
        ddp = self._ddp()
        if ddp is not None and joins_unevenly(ddp):
            refuse_held_back(ddp)
        return False

    def after(self, equal_ranks: EqualRanks) -> EqualRanks | None:
        """Do it at the end of each backward that reduces, which every rank comes to."""
        self._equal_ranks = equal_ranks
        return None

    def came_past(self, keys: frozenset[int]) -> list[int]:
        """Return those of the parameters, by their ids, whose gradient no bucket brought."""
        came = self._came.until_step()
        if len(came) == len(self._held):
            return []
        missing = [self._held[key] for key in keys & self._held.keys() if key not in came]
        brought = [m for m in missing if m.parameter.grad is not None]
        for m, node in zip(brought, nodes([m.parameter for m in brought]), strict=True):
            if node is not self._nodes[id(m.parameter)]:
                raise DistributedError(
                    f"The gradient of variable {m.name!r} was not reduced.",
                    "DDP has its hooks on what the parameter was when it wrapped the model, and it "
                    "was converted since. Nothing is written yet.",
                    "Convert the model first (by .to(), say), then wrap it.",
                )
        return []

    def remove(self) -> None:
        """Take the factors away."""
        for arrival in self._arrivals:
            arrival.remove()

    def reduce(self, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        """Scale and sum one bucket: DDP's communication hook."""
        buffer = bucket.buffer()
        parameters = bucket.parameters()
        self._came.add(*map(id, parameters))
        plan = self._plan(parameters, buffer)
        raw = plan.keys & self._raw
        self._raw -= raw
        ddp = self._ddp()
        if ddp is not None and not joins(ddp):
            if self._equal_ranks is not None:
                self._equal_ranks.when_reduced()
        elif ddp is not None and joins_unevenly(ddp):
            return self._reduce_among_present(bucket, plan)
        if buffer.is_sparse:
            buffer = self._scaled_sparse(buffer, plan, raw)
        elif plan.uniform:
            buffer.mul_(1.0 / self._world.size)
        elif plan.factors is not None and len(raw) == len(plan.keys):
            buffer.mul_(plan.factors)
            if plan.silent is not None:
                # Zeroed, not multiplied by zero: a NaN stays on the rank that made it.
                buffer.masked_fill_(plan.silent, 0)
        else:
            self._scale(bucket.gradients(), plan, raw)
        return _sum(buffer, self._world, self._wire)

    def _reduce_among_present(
        self, bucket: GradBucket, plan: _Plan
    ) -> torch.futures.Future[torch.Tensor]:
        """Scale and sum one bucket in `join()`, where the mean is that of the ranks still there.

        The others send zeros, outside any backward.
        """
        buffer, gradients = bucket.buffer(), bucket.gradients()
        present = torch.tensor([float(current_graph_task() != -1)], device=buffer.device)
        counted = dist.all_reduce(present, group=self._world.group, async_op=True)
        if plan.silenced and buffer.is_sparse:
            buffer = torch.zeros_like(buffer)
        elif plan.silenced:
            foreach_zero_([gradients[i] for i in plan.silenced])

        def received(done: torch.futures.Future[torch.Tensor]) -> torch.Tensor:
            total = done.value()
            counted.wait()
            for i in plan.averaged:
                (total if total.is_sparse else gradients[i]).div_(present.item())
            return total

        return _sum(buffer, self._world, self._wire).then(received)

    def _plan(self, parameters: list[torch.Tensor], buffer: torch.Tensor) -> _Plan:
        # By identity: DDP rebuilds its buckets after the first backward.
        keys = tuple(map(id, parameters))
        plan = self._plans.get(keys)
        if plan is None:
            plan = self._plans[keys] = self._new_plan(parameters, buffer)
        return plan

    def _new_plan(self, parameters: list[torch.Tensor], buffer: torch.Tensor) -> _Plan:
        policies = [self._policy.get(id(p)) for p in parameters]
        averaged = [i for i, policy in enumerate(policies) if policy not in (SUM, FIRST)]
        first = [i for i, policy in enumerate(policies) if policy is FIRST]
        silenced = first if self._world.rank else []
        factors = silent = None
        if not buffer.is_sparse and buffer.numel() < _SMALL * len(parameters):
            factors = _spread(averaged, parameters, 1.0 / self._world.size, torch.ones_like(buffer))
            if silenced:
                silent = _spread(silenced, parameters, 1.0, torch.zeros_like(buffer)).bool()
        summed = [(i, id(parameters[i])) for i, policy in enumerate(policies) if policy is SUM]
        return _Plan(
            uniform=len(averaged) == len(parameters),
            averaged=averaged,
            silenced=silenced,
            summed=summed,
            keys=frozenset(key for _, key in summed),
            factors=factors,
            silent=silent,
        )

    def _scale(self, gradients: list[torch.Tensor], plan: _Plan, raw: frozenset[int]) -> None:
        averaged = [*plan.averaged, *(i for i, key in plan.summed if key not in raw)]
        if averaged:
            foreach_mul_([gradients[i] for i in averaged], 1.0 / self._world.size)
        if plan.silenced:
            foreach_zero_([gradients[i] for i in plan.silenced])

    def _scaled_sparse(
        self, buffer: torch.Tensor, plan: _Plan, raw: frozenset[int]
    ) -> torch.Tensor:
        """Return the one sparse gradient of a bucket, scaled as `_scale` would in place."""
        if plan.silenced:
            return torch.zeros_like(buffer)  # a sparse tensor without any element
        if plan.averaged or (plan.summed and not raw):
            return buffer * (1.0 / self._world.size)
        return buffer


def _accumulated(name: str) -> DistributedError:
    return DistributedError(
        f"Variable {name!r} is summed, and accumulates inside "
        "join(divide_by_initial_world_size=False).",
        "What has been summed already would be summed once more: how many ranks take part is not "
        "known before the gradient is sent.",
        "Call zero_grad(set_to_none=True) before each backward, or leave "
        "divide_by_initial_world_size=False out.",
    )


def _spread(
    positions: list[int], parameters: list[torch.Tensor], value: float, target: torch.Tensor
) -> torch.Tensor:
    """Return ``target`` with ``value`` where the gradients at these positions lie."""
    sizes = [p.numel() for p in parameters]
    pieces = target.split(sizes)
    for i in positions:
        pieces[i].fill_(value)
    return target


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
