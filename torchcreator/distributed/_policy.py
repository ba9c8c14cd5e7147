"""What each parameter of a model declares about its gradient: the one table that all hosts read.

Transport is always MEAN. A policy is a factor on what one backward adds: the size of the world
for SUM, the same on the first rank and zero elsewhere for ONLY_FIRST_REPLICA, one for MEAN. A
gradient that is already reduced is equal on all ranks, so its mean is itself, and accumulation
over several synchronised backwards adds up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from typing_extensions import TypeIs

from torchcreator._access.collectives import World
from torchcreator._errors import DistributedError
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.table import specs_of
from torchcreator._torch.modules import saved_as

SUM = VariableAggregation.SUM
MEAN = VariableAggregation.MEAN
FIRST = VariableAggregation.ONLY_FIRST_REPLICA

_PER_RANK = (VariableSynchronization.NONE, VariableSynchronization.ON_READ)


@dataclass(frozen=True, eq=False, slots=True)
class Managed:
    """A parameter of a model, all its names there, and what it was declared to be."""

    names: tuple[str, ...]
    parameter: nn.Parameter
    spec: VariableSpec | None

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]

    @property
    def keys(self) -> tuple[str, ...]:
        """Its names in a ``state_dict``."""
        return tuple(map(saved_as, self.names))

    @property
    def per_rank(self) -> bool:
        """Whether each rank has a value of its own, so that no gradient is reduced."""
        return self.spec is not None and self.spec.synchronization in _PER_RANK

    @property
    def declared(self) -> VariableAggregation:
        """What was asked for of its gradient, which may be NONE."""
        return VariableAggregation.NONE if self.spec is None else self.spec.aggregation

    @property
    def aggregation(self) -> VariableAggregation:
        """How its gradient is reduced. NONE asked for nothing, and gets what DDP does: MEAN."""
        return MEAN if self.declared is VariableAggregation.NONE else self.declared

    @property
    def has_own_group(self) -> bool:
        """Whether it declares a process group."""
        return self.spec is not None and self.spec.group() is not None

    def world(self, default: World) -> World:
        """Return the ranks that share it: those of its own group, or the default ones."""
        if self.spec is None or self.spec.group() is None:
            return default
        return World.of(self.spec.group())


def survey(model: nn.Module) -> list[Managed]:
    """Return every parameter of a model once, in the order of ``named_parameters``."""
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    specs = specs_of([*names])
    return [Managed(tuple(names[p]), p, spec) for p, spec in zip(names, specs, strict=True)]


def reduced(managed: Iterable[Managed]) -> Iterator[Managed]:
    """Yield those whose gradient is reduced: they are trained, and one value on all ranks."""
    return (m for m in managed if m.parameter.requires_grad and not m.per_rank)


def world_or_refuse(group: dist.ProcessGroup | None, function: str) -> World:
    """Return the world of a group, or say that there is none yet."""
    if not (dist.is_available() and dist.is_initialized()):
        raise DistributedError(
            f"{function} was called before there is a process group.",
            "It brings the values of several ranks together, and has no way to reach them.",
            "Call torch.distributed.init_process_group() first, in a process started by torchrun.",
        )
    return World.of(group)


def narrower(wire: torch.dtype | None, own: torch.dtype) -> TypeIs[torch.dtype]:
    """Return whether gradients of dtype ``own`` are to travel as ``wire``."""
    return wire is not None and own.is_floating_point and wire.itemsize < own.itemsize
