"""Scale what a backward is about to add to a gradient, before it is accumulated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge

from torchcreator._access.collectives import World
from torchcreator._errors import DistributedError
from torchcreator.distributed._policy import FIRST, MEAN, SUM, Managed

Gradients = tuple["torch.Tensor | None", ...]
Prehook = Callable[[Gradients], "tuple[torch.Tensor, ...] | None"]
Divisor = Callable[[], float]
"""What a transport divides its sum by."""


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
        node: Any = node_of(parameter)
        return cls(parameter, hook, node, node.register_prehook(hook))

    def renewed(self) -> Arrival:
        """Return the same on the parameter's present node."""
        self.remove()
        return Arrival.at(self.parameter, self.hook)

    def remove(self) -> None:
        """Take the hook away."""
        self.handle.remove()


def node_of(parameter: nn.Parameter) -> object:
    """Return a parameter's AccumulateGrad node, a frozen one's too, for when it is thawed."""
    trained = parameter.requires_grad
    parameter.requires_grad_(True)
    try:
        return get_gradient_edge(parameter).node
    finally:
        parameter.requires_grad_(trained)


@dataclass(frozen=True, eq=False, slots=True)
class Factor:
    """A parameter on its way through a transport that averages, or divides by something else.

    Attributes:
        managed: The parameter, and what it declares.
        world: The ranks over which it is reduced.
        divisor: What the transport divides by; None for the size of the world.
        averages: Whether what it divides by is the number of ranks that take part.
    """

    managed: Managed
    world: World
    divisor: Divisor | None = None
    averages: bool = True

    @property
    def is_one(self) -> bool:
        """Whether the transport does all that is asked for."""
        if self.averages:
            return self.world.size == 1 or self.managed.declared not in (SUM, FIRST)
        # A mean that was asked for needs a factor too. Where nothing was, the host has its ways.
        return self.managed.declared not in (SUM, FIRST, MEAN)

    def applied_to(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return what is to be sent of what one backward brings."""
        divisor = self.world.size if self.divisor is None else self.divisor()
        if self.managed.aggregation is MEAN:
            return gradient * (divisor / self.world.size)
        if self.managed.aggregation is FIRST and self.world.rank != 0:
            # Zeros, not a product with zero: a NaN stays on the rank that made it.
            return torch.zeros_like(gradient)
        return gradient * divisor


class Came:
    """The ids of the parameters that brought a gradient since the last step."""

    __slots__ = ("_keys", "_stepped")

    def __init__(self) -> None:
        self._keys: set[int] = set()
        self._stepped = False

    def add(self, *keys: int) -> None:
        """Note that these did; the first after a step begins anew."""
        if self._stepped:
            self._keys, self._stepped = set(), False
        self._keys.update(keys)

    def discard(self, key: int) -> None:
        """Note that one did not."""
        self._keys.discard(key)

    def take(self, key: int) -> bool:
        """Return whether one did, and forget it."""
        known = key in self._keys
        self._keys.discard(key)
        return known

    def until_step(self) -> set[int]:
        """Return all that did. A step is under way: what comes next is for another one."""
        self._stepped = True
        return self._keys


class ArrivalSet:
    """Every factor that a transport needs, on the parameters that need one.

    A host that sees each gradient after its accumulation asks `confirm` whether the factor was
    there; a host that does not calls `renew` before each forward.
    """

    def __init__(self) -> None:
        self._came = Came()
        self._arrivals: dict[int, Arrival] = {}

    def __contains__(self, key: int) -> bool:
        return key in self._arrivals

    def __len__(self) -> int:
        return len(self._arrivals)

    def keys(self) -> frozenset[int]:
        """Return the ids of the parameters that have a factor."""
        return frozenset(self._arrivals)

    def take(self, factors: Iterable[Factor]) -> None:
        """Put these factors where they belong, and no others."""
        wanted = {id(f.managed.parameter): f for f in factors if not f.is_one}
        for key in self._arrivals.keys() - wanted.keys():
            self._arrivals.pop(key).remove()
            self._came.discard(key)
        for key in wanted.keys() - self._arrivals.keys():
            factor = wanted[key]
            self._arrivals[key] = Arrival.at(factor.managed.parameter, self._prehook(factor))
        self.renew()

    def _prehook(self, factor: Factor) -> Prehook:
        """Return what multiplies one backward's gradient and notes that it came."""
        # Nothing that has the node in turn: through a node the garbage collector does not see.
        came, key = self._came, id(factor.managed.parameter)

        def on_arrival(gradients: Gradients) -> tuple[torch.Tensor, ...] | None:
            gradient = gradients[0]
            if gradient is None:
                return None
            came.add(key)
            return (factor.applied_to(gradient),)

        return on_arrival

    def confirm(self, key: int, name: str) -> None:
        """Make sure that the gradient just accumulated has had its factor.

        Raises:
            DistributedError: It has not: autograd has another node for the parameter by now. The
                next backward will be right.
        """
        if self._came.take(key):
            return
        self.renew()
        raise DistributedError(
            f"The gradient of variable {name!r} arrived without its aggregation.",
            "The parameter was converted (by .to() or swap_tensors) since aggregate_gradients(), "
            "and its backward ran without calling the module itself.",
            "Drop this gradient with zero_grad() and go on: the aggregation is in place again.",
        )

    def came_past(self, keys: frozenset[int]) -> list[int]:
        """Return those of the parameters, by their ids, whose gradient missed its factor.

        A gradient that was not brought by a backward, but set by hand, is none of those.
        """
        came = self._came.until_step()
        if len(came) == len(self._arrivals):  # all there are
            return []
        missing = (keys & self._arrivals.keys()) - came
        if not any(self._arrivals[key].parameter.grad is not None for key in missing):
            return []
        return [key for key in self.renew() if key in missing]

    def renew(self) -> list[int]:
        """Put back what was lost since: ``.to(dtype)`` gives a parameter another node.

        Returns:
            The ids of those whose factor was lost.
        """
        lost = []
        today = nodes([arrival.parameter for arrival in self._arrivals.values()])
        for (key, arrival), node in zip(list(self._arrivals.items()), today, strict=True):
            if node is not None and arrival.node is not node:
                self._arrivals[key] = arrival.renewed()
                lost.append(key)
        return lost

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
def nodes(parameters: list[nn.Parameter]) -> list[object]:
    """Return each parameter's AccumulateGrad node, which `get_gradient_edge` gives one by one.

    There is None for one that is frozen by now, and for all of them in inference mode.
    """
    if not parameters:
        return []
    # The output is kept: before torch 2.13 a node knows nothing any more once that is gone.
    output = _Nodes.apply(*parameters)  # type: ignore[no-untyped-call]
    if output.grad_fn is None:
        return [None] * len(parameters)
    return [node for node, _ in output.grad_fn.next_functions]
