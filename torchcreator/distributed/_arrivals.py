"""Scale what a backward is about to add to a gradient, before it is accumulated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge

from torchcreator._access.collectives import World
from torchcreator._errors import DistributedError
from torchcreator.distributed._policy import FIRST, SUM, Managed

Gradients = tuple["torch.Tensor | None", ...]
Prehook = Callable[[Gradients], "tuple[torch.Tensor, ...] | None"]


class _Removable(Protocol):
    def remove(self) -> None: ...


@dataclass(frozen=True, eq=False, slots=True)
class Arrival:
    """A prehook on a parameter's AccumulateGrad node.

    Autograd holds that node weakly, and a hook dies with its node: whoever wants the hook keeps
    this. The node is also replaced by ``.to(dtype)`` and by ``swap_tensors``; then the hook is
    silently gone: `ArrivalSet.renew` looks.
    """

    parameter: nn.Parameter
    hook: Prehook
    node: Any
    handle: _Removable

    @classmethod
    def at(cls, parameter: nn.Parameter, hook: Prehook) -> Arrival:
        """Install ``hook``; ``torch.autograd.grad`` never runs it, a backward does once."""
        node: Any = get_gradient_edge(parameter).node
        return cls(parameter, hook, node, node.register_prehook(hook))

    def renewed(self) -> Arrival:
        """Return the same on the parameter's present node."""
        self.remove()
        return Arrival.at(self.parameter, self.hook)

    def remove(self) -> None:
        """Take the hook away."""
        self.handle.remove()


class ArrivalSet:
    """Every factor that a transport by MEAN needs, on the parameters that need one.

    A host that sees each gradient after its accumulation asks `confirm` whether the factor was
    there; a host that does not calls `renew` before each forward.
    """

    def __init__(self, managed: list[Managed], world: World) -> None:
        self._came: set[int] = set()
        self._arrivals = {
            id(m.parameter): Arrival.at(m.parameter, hook)
            for m in managed
            if (hook := _factor(m, m.world(world), self._came)) is not None
        }

    def __contains__(self, m: Managed) -> bool:
        return id(m.parameter) in self._arrivals

    def confirm(self, key: int, name: str) -> None:
        """Make sure that the gradient just accumulated has had its factor.

        Raises:
            DistributedError: It has not: autograd has another node for the parameter by now. The
                next backward will be right.
        """
        if key in self._came:
            self._came.remove(key)
            return
        self.renew()
        raise DistributedError(
            f"The gradient of variable {name!r} arrived without its aggregation.",
            "The parameter was converted (by .to() or swap_tensors) since aggregate_gradients(), "
            "and its backward ran without calling the module itself.",
            "Drop this gradient with zero_grad() and go on: the aggregation is in place again.",
        )

    def renew(self) -> None:
        """Put back what was lost since: ``.to(dtype)`` gives a parameter another node."""
        nodes = _nodes([arrival.parameter for arrival in self._arrivals.values()])
        for (key, arrival), node in zip(list(self._arrivals.items()), nodes, strict=True):
            if node is not None and arrival.node is not node:
                self._arrivals[key] = arrival.renewed()

    def remove(self) -> None:
        """Take all hooks away."""
        for arrival in self._arrivals.values():
            arrival.remove()
        self._arrivals.clear()


class _Nodes(torch.autograd.Function):
    """Takes any tensors, does nothing, and has all their nodes behind it."""

    @staticmethod
    def forward(ctx: object, *parameters: torch.Tensor) -> torch.Tensor:
        return torch.empty(0)


@torch.enable_grad()
def _nodes(parameters: list[nn.Parameter]) -> list[object]:
    """Return each parameter's AccumulateGrad node, which `get_gradient_edge` gives one by one.

    There is None for one that is frozen by now, and for all of them in inference mode.
    """
    if not parameters:
        return []
    behind = _Nodes.apply(*parameters).grad_fn  # type: ignore[no-untyped-call]
    if behind is None:
        return [None] * len(parameters)
    return [node for node, _ in behind.next_functions]


def _factor(m: Managed, world: World, came: set[int]) -> Prehook | None:
    """Return what multiplies one backward's gradient and notes that it came, or None for one."""
    if world.size == 1 or m.aggregation not in (SUM, FIRST):
        return None
    size, key = world.size, id(m.parameter)

    def times_size(gradients: Gradients) -> tuple[torch.Tensor, ...] | None:
        gradient = gradients[0]
        if gradient is None:
            return None
        came.add(key)
        return (gradient * size,)

    def nothing(gradients: Gradients) -> tuple[torch.Tensor, ...] | None:
        gradient = gradients[0]
        if gradient is None:
            return None
        came.add(key)
        # Zeros, not a product with zero: a NaN stays on the rank that made it.
        return (torch.zeros_like(gradient),)

    return nothing if m.aggregation is FIRST and world.rank != 0 else times_size
