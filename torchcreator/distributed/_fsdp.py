"""Policies under FSDP2, on the whole parameters that its backward sees."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import nn

from torchcreator._access.collectives import World
from torchcreator._errors import DistributedError
from torchcreator._spec.enums import VariableSynchronization
from torchcreator._torch.dtensor import is_sharded
from torchcreator._torch.hosts import ShardedParameter, sharded_parameters, sharding_groups
from torchcreator.distributed._arrivals import ArrivalSet, Factor
from torchcreator.distributed._equal_ranks import EqualRanks
from torchcreator.distributed._initial import broadcast_all
from torchcreator.distributed._policy import Managed, survey


def per_rank_parameters(model: nn.Module) -> set[nn.Parameter]:
    """Return the parameters that FSDP2 must leave alone, for ``fully_shard(ignored_params=...)``.

    Those are the ones with a value per rank, of which a shard would be a part of nothing, and the
    ones with a process group of their own, over which FSDP2 cannot reduce. Pass them to every
    ``fully_shard`` call on the model and its parts.

    Args:
        model: A module that is not sharded yet.

    Example:
        >>> import torch, torchcreator as tc
        >>> model = torch.nn.Linear(2, 3)
        >>> model.seen = tc.variable(0, synchronization="on_read", aggregation="sum")
        >>> [p is model.seen for p in tc.distributed.per_rank_parameters(model)]
        [True]
    """
    return {m.parameter for m in survey(model) if m.per_rank or m.has_own_group}


def fsdp_modules(model: nn.Module) -> list[nn.Module]:
    """Return the modules that ``fully_shard`` was applied to, outermost first."""
    # Duck-typed, because importing FSDP2 takes a while and most models have none.
    return [module for module in model.modules() if hasattr(module, "set_requires_gradient_sync")]


class InFSDP:
    """The transport of a model in FSDP2: factors on the whole parameters that its backward sees.

    FSDP2 makes a whole parameter at its first all-gather and keeps the object and its node. A
    hook on the sharded one would act after the reduction, and be wrong where gradients accumulate.
    """

    ours = False
    final_in_backward = True

    def __init__(self, modules: list[nn.Module]) -> None:
        self._modules = [weakref.ref(module) for module in modules]
        self._arrivals = ArrivalSet()
        self._divisors: list[float | None] = []

    @property
    def modules(self) -> list[nn.Module]:
        """The modules that ``fully_shard`` was applied to, outermost first."""
        return [module for reference in self._modules if (module := reference()) is not None]

    def holds(self, parameter: torch.Tensor) -> bool:
        """Return whether FSDP2 has sharded a parameter."""
        return is_sharded(parameter)

    def survey(self, model: nn.Module) -> list[Managed]:
        """Return every parameter of the model, the sharded ones as the optimizer holds them."""
        sharded = {
            id(held.whole): held.sharded
            for module in self.modules
            for held in sharded_parameters(module)
            if held.whole is not None
        }
        return [
            replace(m, parameter=sharded.get(id(m.parameter), m.parameter)) for m in survey(model)
        ]

    def look(self) -> bool:
        """Return whether somebody has set another factor that FSDP2 divides by."""
        return self._divisors != self._divisors_now()

    def _divisors_now(self) -> list[float | None]:
        return [
            group.gradient_divide_factor
            for module in self.modules
            for group in sharding_groups(module)
        ]

    def take(self, managed: list[Managed]) -> None:
        """Put the factors on the whole parameters, which each module gathers once for that."""
        declared = {
            id(m.parameter): m
            for m in managed
            if m.parameter.dtype.is_floating_point or m.parameter.dtype.is_complex
        }
        self._divisors = self._divisors_now()
        factors = []
        for module in self.modules:
            for held in sharded_parameters(module):
                m = declared.get(id(held.sharded))
                if m is not None:
                    averages = held.divisor is None
                    factor = Factor(m, _world(held), held.divisor_later(), averages)
                    factors.append((module, held, factor))
        self._gather(module for module, held, f in factors if held.whole is None and not f.is_one)
        on_whole = []
        for _, held, factor in factors:
            if held.whole is not None:
                whole = replace(factor.managed, parameter=held.whole)
                on_whole.append(replace(factor, managed=whole))
        self._arrivals.take(on_whole)

    def _gather(self, modules: Iterable[nn.Module]) -> None:
        for module in dict.fromkeys(modules):
            module.unshard()  # type: ignore[operator]
            module.reshard()  # type: ignore[operator]

    def synchronises(self) -> bool:
        """Return whether the next backward reduces what it brings."""
        return all(
            bool(group.reduce_grads)
            for module in self.modules[:1]
            for group in sharding_groups(module)
        )

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Let backwards accumulate whole gradients on this rank."""
        modules = self.modules
        for module in modules:
            module.set_requires_gradient_sync(False, recurse=False)  # type: ignore[operator]
        try:
            yield
        finally:
            for module in modules:
                module.set_requires_gradient_sync(True, recurse=False)  # type: ignore[operator]

    def after(self, equal_ranks: EqualRanks) -> EqualRanks | None:
        """Let it find out by itself: the end of a backward is the host's."""
        equal_ranks.follow(self.synchronises)
        return None

    def came_past(self, keys: frozenset[int]) -> list[int]:
        """Return an empty list: FSDP2 keeps whole parameters, whose nodes nobody replaces."""
        return []

    def remove(self) -> None:
        """Let FSDP2 average."""
        self._arrivals.remove()


def _world(held: ShardedParameter) -> World:
    return World(None, held.rank, held.size)


def refuse_unshardable(managed: list[Managed]) -> None:
    """Raise for a variable that FSDP2 has sharded and should not have."""
    for m in managed:
        if not is_sharded(m.parameter) or not (m.per_rank or m.has_own_group):
            continue
        assert m.spec is not None
        own_group = not m.per_rank
        synchronization = VariableSynchronization(m.spec.synchronization).name
        raise DistributedError(
            f"Variable {m.name!r} is sharded, and "
            + ("has a process group of its own." if own_group else f"is {synchronization}."),
            "FSDP2 reduces over its own mesh."
            if own_group
            else "A value per rank cannot be one value of which each rank holds a part.",
            "Pass ignored_params=torchcreator.distributed.per_rank_parameters(model) to every "
            "fully_shard() call.",
        )


@torch.no_grad()
def share_replicas(managed: list[Managed]) -> None:
    """Overwrite each shard that several ranks hold with the first replica's.

    FSDP2 takes every rank's own values when it shards. Over a mesh with a dimension of replicas
    (hybrid sharding) these differ where the ranks were not seeded alike, and stay different.
    """
    shards: dict[World, list[torch.Tensor]] = {}
    for m in managed:
        if not is_sharded(m.parameter) or m.parameter.is_meta:
            continue
        for dim, placement in enumerate(m.parameter.placements):
            shard = m.parameter.to_local()
            if placement.is_replicate() and shard.numel():
                world = World.of(m.parameter.device_mesh.get_group(dim))
                shards.setdefault(world, []).append(shard)
    for world, theirs in shards.items():
        broadcast_all(theirs, world)
