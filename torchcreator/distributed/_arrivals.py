"""Scale what a backward is about to add to a gradient, before it is accumulated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge

from torchcreator._collectives import World
from torchcreator.distributed._policy import FIRST, SUM, Managed

Gradients = tuple["torch.Tensor | None", ...]
Prehook = Callable[[Gradients], "tuple[torch.Tensor, ...] | None"]


class _Removable(Protocol):
    def remove(self) -> None: ...


@dataclass(frozen=True, eq=False)
class Arrival:
    """A prehook on a parameter's AccumulateGrad node.

    Autograd holds that node weakly, and a hook dies with its node: whoever wants the hook keeps
    this. The node is also replaced by ``.to(dtype)`` and by ``swap_tensors``; then the hook is
    silently gone, and `stale` tells.
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

    @property
    def stale(self) -> bool:
        """Whether autograd has given the parameter another node since."""
        return get_gradient_edge(self.parameter).node is not self.node

    def renewed(self) -> Arrival:
        """Return the same on the parameter's present node."""
        self.remove()
        return Arrival.at(self.parameter, self.hook)

    def remove(self) -> None:
        """Take the hook away."""
        self.handle.remove()


def arrivals(managed: list[Managed], world: World) -> list[Arrival]:
    """Install every factor that a transport by MEAN needs, and return what has to be kept."""
    return [
        Arrival.at(m.parameter, hook)
        for m in managed
        if (hook := _factor(m, m.world(world))) is not None
    ]


def _factor(m: Managed, world: World) -> Prehook | None:
    """Return what one backward's gradient is multiplied with, or None for one."""
    if world.size == 1 or m.aggregation not in (SUM, FIRST):
        return None
    if m.aggregation is FIRST and world.rank != 0:
        return _nothing
    size = world.size

    def times_size(gradients: Gradients) -> tuple[torch.Tensor, ...] | None:
        gradient = gradients[0]
        return None if gradient is None else (gradient * size,)

    return times_size


def _nothing(gradients: Gradients) -> tuple[torch.Tensor, ...] | None:
    # Zeros, not a product with zero: a NaN stays on the rank that made it.
    gradient = gradients[0]
    return None if gradient is None else (torch.zeros_like(gradient),)
