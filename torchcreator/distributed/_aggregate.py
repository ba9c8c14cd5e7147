"""The entry point for models that are wrapped or sharded already, or are to stay plain."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchcreator._access.collectives import World
from torchcreator._errors import DistributedError
from torchcreator._torch.dtensor import is_sharded
from torchcreator._torch.modules import uncompiled
from torchcreator.distributed import _ddp, _fsdp, _options
from torchcreator.distributed._arrivals import ArrivalSet
from torchcreator.distributed._handle import GradientAggregation, keep, release
from torchcreator.distributed._plain import reducer_for, share, share_buffers
from torchcreator.distributed._policy import Managed, reduced, survey, world_or_refuse
from torchcreator.distributed._verify import check_specs

_T = TypeVar("_T")


def aggregate_gradients(
    model: nn.Module,
    *,
    process_group: dist.ProcessGroup | None = None,
    compress: torch.dtype | None = None,
) -> GradientAggregation:
    """Carry out what a model's variables declare about their gradients, where it stands.

    Every rank must call it. It checks first that all ranks declare the same variables. Then:

    - in ``DistributedDataParallel``: DDP goes on averaging, and each gradient is multiplied before
      by what its policy asks. DDP's communication hook stays free.
    - in FSDP2 (``fully_shard``): the same. Where a mesh replicates shards, each becomes its first
      replica's. Parameters that FSDP2 ignores are treated as those of a plain module.
    - in a plain module: the first rank's parameters and buffers are broadcast, except per-rank
      ones, and from now on every gradient is reduced before ``backward()`` returns; those of
      parameters without any declaration are averaged. A parameter that no rank has used keeps
      its gradient. A rank on which a backward reaches no parameter at all takes no part in it,
      and the others wait for it in vain.

    Called again for the same model, it replaces what it did before.

    Args:
        model: A module, as it is called in the training loop.
        process_group: The ranks that train a plain module together; None means the default group.
        compress: For a plain module: the dtype in which gradients travel, ``torch.bfloat16``, say.

    Returns:
        A handle to suspend or remove it. It need not be kept.

    Raises:
        DistributedError: There is no process group, the ranks declare different variables, or
            the model is held in a way that a variable's declaration rules out.
        VariableTypeError: An argument is of the wrong type.

    Example:
        >>> import torch, torch.distributed as dist, torchcreator as tc
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> model = torch.nn.Linear(2, 3)
        >>> aggregation = tc.distributed.aggregate_gradients(model)
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> model.bias.grad.tolist()
        [1.0, 1.0, 1.0]
        >>> dist.destroy_process_group()
    """
    _options.refuse_other_than_module("aggregate_gradients()", model)
    _options.refuse_other_than_group("aggregate_gradients()", process_group)
    _options.refuse_other_than_wire("aggregate_gradients()", compress, hooks=False)
    world = world_or_refuse(process_group, "aggregate_gradients()")
    model = uncompiled(model)
    modules = _fsdp.fsdp_modules(model)
    if isinstance(model, DistributedDataParallel):
        aggregation = _on_ddp(model, process_group, compress)
    elif modules:
        aggregation = _on_fsdp(model, modules, world, compress)
    else:
        aggregation = _on_plain(model, world, compress)
    keep(model, aggregation)
    return aggregation


def _on_ddp(
    ddp: DistributedDataParallel, group: dist.ProcessGroup | None, compress: torch.dtype | None
) -> GradientAggregation:
    if group is not None and group is not ddp.process_group:
        raise DistributedError(
            "aggregate_gradients() was given a group other than the DDP's own.",
            "DDP reduces over the group that it was made with.",
            "Leave process_group= out.",
        )
    _ddp.refuse_mixed_precision("aggregate_gradients()", ddp.mixed_precision)
    if compress is not None:
        raise DistributedError(
            f"aggregate_gradients() was given compress={compress} for a model in DDP.",
            "What travels is the business of DDP's communication hook.",
            "Register one on the DDP itself, or use data_parallel(model, compress=...).",
        )
    world = World.of(ddp.process_group)
    managed = survey(ddp.module)
    check_specs(managed, world)
    for m in managed:
        if (m.per_rank or m.has_own_group) and not _ddp.ignores(ddp, m):
            raise DistributedError(
                f"Variable {m.name!r} is in the hands of DistributedDataParallel, and "
                + ("has a value per rank." if m.per_rank else "has a process group of its own."),
                "DDP has overwritten it with rank 0's value when it wrapped the model.",
                "Wrap the model with torchcreator.distributed.data_parallel(model) instead, which "
                "keeps such variables out.",
            )
    release(ddp)
    arrivals = ArrivalSet([m for m in reduced(managed) if not _ddp.ignores(ddp, m)], world)
    apart = [m for m in managed if m.has_own_group]
    share(apart, world)
    reducer, own = reducer_for(apart, world, None)
    # Weak: what is kept for as long as the model lives must not keep the model alive.
    no_sync = weakref.WeakMethod(ddp.no_sync)
    return GradientAggregation([arrivals, own], reducer, lambda: _alive(no_sync)())


def _on_fsdp(
    model: nn.Module, modules: list[nn.Module], world: World, compress: torch.dtype | None
) -> GradientAggregation:
    if compress is not None:
        raise DistributedError(
            f"aggregate_gradients() was given compress={compress} for a model in FSDP2.",
            "What travels is the business of fully_shard().",
            f"Write fully_shard(..., mp_policy=MixedPrecisionPolicy(reduce_dtype={compress})).",
        )
    managed = _fsdp.survey_sharded(modules, model)
    check_specs(managed, world)
    _fsdp.refuse_unshardable(managed)
    release(model)
    _fsdp.share_replicas(managed)
    sets = _fsdp.arrivals_on_whole(modules, managed)
    apart = [m for m in managed if not is_sharded(m.parameter)]
    share(apart, world)
    reducer, arrivals = reducer_for(apart, world, None)
    held = [weakref.ref(module) for module in modules]
    return GradientAggregation(
        [*sets, arrivals], reducer, lambda: _fsdp.no_sync([_alive(module) for module in held])
    )


def _alive(reference: Callable[[], _T | None]) -> _T:
    """Return what a weak reference refers to."""
    target = reference()
    assert target is not None, "no_sync() is for a model that still exists"
    return target


def _on_plain(model: nn.Module, world: World, compress: torch.dtype | None) -> GradientAggregation:
    managed = survey(model)
    _refuse_held_otherwise(model, managed)
    check_specs(managed, world, model.named_buffers())
    release(model)
    share(managed, world)
    share_buffers(list(model.buffers()), world)
    reducer, arrivals = reducer_for(managed, world, compress)
    return GradientAggregation([arrivals], reducer, None)


def _refuse_held_otherwise(model: nn.Module, managed: list[Managed]) -> None:
    """Raise for a module that is plain outside, but whose parameters others reduce."""
    for name, module in model.named_modules():
        kind = type(module).__name__
        if kind in ("DistributedDataParallel", "FullyShardedDataParallel"):
            raise DistributedError(
                f"Module {name or kind!r} of the model is a {kind}.",
                "Its gradients would be reduced twice."
                if kind == "DistributedDataParallel"
                else "It flattens parameters into one, and a policy per parameter is lost there.",
                "Call aggregate_gradients() for that module itself."
                if kind == "DistributedDataParallel"
                else "Use fully_shard() of torch.distributed.fsdp, which keeps them apart.",
            )
    for m in managed:
        if is_sharded(m.parameter):
            raise DistributedError(
                f"Parameter {m.name!r} is a DTensor, and no fully_shard() module holds it.",
                "Its gradient is reduced by DTensor itself, as its placements say.",
                "Apply fully_shard() to the model, or leave sharded parameters to another module.",
            )
