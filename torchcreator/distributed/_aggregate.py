"""The entry point for models that are wrapped or sharded already, or are to stay plain."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchcreator._access.collectives import World
from torchcreator._errors import DistributedError
from torchcreator._torch.dtensor import is_sharded
from torchcreator._torch.hosts import steps_in_backward
from torchcreator._torch.modules import uncompiled
from torchcreator.distributed import _fsdp, _options
from torchcreator.distributed._buckets import stepped_in_backward
from torchcreator.distributed._handle import GradientAggregation
from torchcreator.distributed._initial import share, share_buffers
from torchcreator.distributed._policy import Managed, reduced, survey, world_or_refuse
from torchcreator.distributed._transport import Nobody
from torchcreator.distributed._verify import check_specs
from torchcreator.distributed._watch import attach, kept, release, watch


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
        return _on_ddp(model, process_group, compress)
    if modules:
        aggregation = _on_fsdp(model, modules, world, compress)
    else:
        aggregation = _on_plain(model, world, compress)
    watch(model, aggregation)
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
    if compress is not None:
        raise DistributedError(
            f"aggregate_gradients() was given compress={compress} for a model in DDP.",
            "What travels is the business of DDP's communication hook.",
            "Register one on the DDP itself, or use data_parallel(model, compress=...).",
        )
    former = kept(ddp)
    if former is not None and former.transport.ours:
        raise DistributedError(
            f"The {type(ddp).__name__} has its policies from data_parallel() already.",
            "They would be applied twice.",
            "Leave aggregate_gradients() out.",
        )
    return attach(ddp)


def _on_fsdp(
    model: nn.Module, modules: list[nn.Module], world: World, compress: torch.dtype | None
) -> GradientAggregation:
    if compress is not None:
        raise DistributedError(
            f"aggregate_gradients() was given compress={compress} for a model in FSDP2.",
            "What travels is the business of fully_shard().",
            f"Write fully_shard(..., mp_policy=MixedPrecisionPolicy(reduce_dtype={compress})).",
        )
    for module in modules:
        module.reshard()  # type: ignore[operator]  # a root stays whole after a forward
    managed = survey(model)
    check_specs(managed, world)
    _fsdp.refuse_unshardable(managed)
    release(model)
    _fsdp.share_replicas(managed)
    share([m for m in managed if not is_sharded(m.parameter)], world)
    return GradientAggregation(model, _fsdp.InFSDP(modules), world)


def _on_plain(model: nn.Module, world: World, compress: torch.dtype | None) -> GradientAggregation:
    managed = survey(model)
    _refuse_held_otherwise(model, managed)
    check_specs(managed, world, model.named_buffers())
    for m in reduced(managed):
        if steps_in_backward(m.parameter):
            raise stepped_in_backward(m.name)
    release(model)
    share(managed, world)
    share_buffers(list(model.buffers()), world)
    return GradientAggregation(model, Nobody(), world, compress)


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
