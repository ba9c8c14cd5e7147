"""The entry point for models that are not wrapped yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchcreator._access.collectives import World
from torchcreator._errors import DistributedError, VariableTypeError
from torchcreator._torch.dtensor import is_sharded
from torchcreator._torch.hosts import ignore_in_ddp
from torchcreator.distributed import _ddp, _options
from torchcreator.distributed._buffers import declared_policies
from torchcreator.distributed._handle import GradientAggregation
from torchcreator.distributed._in_ddp import UnderHook
from torchcreator.distributed._initial import share, share_buffers
from torchcreator.distributed._policy import Managed, reduced, survey, world_or_refuse
from torchcreator.distributed._transport import Transport
from torchcreator.distributed._verify import check_specs
from torchcreator.distributed._watch import watch

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from torchcreator._torch.hosts import GradBucket

CommHook: TypeAlias = Callable[[Any, "GradBucket"], "torch.futures.Future[torch.Tensor]"]
Compress: TypeAlias = "torch.dtype | CommHook | tuple[object, CommHook] | None"


def data_parallel(
    model: nn.Module,
    *,
    process_group: dist.ProcessGroup | None = None,
    compress: Compress = None,
    **ddp_kwargs: Any,
) -> DistributedDataParallel:
    """Wrap a model in DDP, and carry out what its variables declare.

    Each rank must call it. It checks that all ranks declare the same variables, broadcasts the
    first rank's values of those that are one value on all ranks, and from then on reduces their
    gradients as they ask: SUM, MEAN (also where nothing was asked for, as DDP does) or
    ONLY_FIRST_REPLICA, by one all-reduce per bucket. Variables with a value per rank
    (``synchronization`` ``NONE`` or ``ON_READ``) keep their values, and their gradients are left
    alone. Variables with a process group of their own are broadcast and reduced there. Buffers
    with a policy (see `aggregate_buffer`) are broadcast once; DDP does not overwrite them later.

    Args:
        model: Any module that is not wrapped or sharded yet.
        process_group: The ranks that train it together; None means the default group.
        compress: How gradients travel: a dtype (``torch.bfloat16``) they are cast to, or a comm
            hook of DDP's, alone or as ``(state, hook)``.
        **ddp_kwargs: Options of ``DistributedDataParallel``, except ``mixed_precision``,
            ``delay_all_reduce_named_params`` and ``param_to_hook_all_reduce``.

    Returns:
        The wrapped model.

    Raises:
        DistributedError: There is no process group, the ranks declare different variables,
            nothing is left for DDP to do, DDP refuses what it is given, or an option of DDP's rules
            the policies out.
        VariableTypeError: An argument is of the wrong type, or DDP has no such option.

    Example:
        >>> import torch.distributed as dist, torchcreator as tc
        >>> from torch import nn
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> with tc.creator_scope(tc.creators.aggregate("sum")):
        ...     model = nn.Linear(2, 3)
        >>> type(tc.distributed.data_parallel(model)).__name__
        'DistributedDataParallel'
        >>> dist.destroy_process_group()
    """
    _options.refuse_other_than_module("data_parallel()", model)
    _refuse_wrapped(model)
    _options.refuse_other_options("data_parallel()", ddp_kwargs)
    _options.refuse_other_than_wire("data_parallel()", compress, hooks=True)
    _ddp.refuse_mixed_precision("data_parallel()", ddp_kwargs.get("mixed_precision"))
    group = _one_group(process_group, ddp_kwargs.pop("device_mesh", None))
    _options.refuse_other_than_group("data_parallel()", group)
    world = world_or_refuse(group, "data_parallel()")
    managed = survey(model)
    check_specs(managed, world, model.named_buffers())
    apart = [m for m in managed if m.per_rank or m.has_own_group]
    ours = [m for m in managed if not (m.per_rank or m.has_own_group)]
    _ddp.refuse_two(ours)
    buffers = {name: buffer for name, buffer, _ in declared_policies(model)}
    wire = compress if isinstance(compress, torch.dtype) else None
    ignored = [*_ddp.spellings(apart), *buffers]
    with _ddp.wrapped(model, ours, ignored, process_group=group, **ddp_kwargs) as ddp:
        share([m for m in managed if m.has_own_group], world)
        share_buffers(list(buffers.values()), world)
        transport = _transport(ddp, list(reduced(ours)), world, compress)
        watch(ddp, GradientAggregation(ddp, transport, world, wire))
        # Of somebody who wraps the DDP in another one.
        ignore_in_ddp(ddp, {f"module.{name.lstrip('.')}" for name in ignored})
    return ddp


def _transport(
    ddp: DistributedDataParallel, managed: list[Managed], world: World, compress: Compress
) -> Transport:
    """Install what makes DDP reduce by the policies."""
    if compress is None or isinstance(compress, torch.dtype):
        return _ddp.install(ddp, managed, world, compress)
    # The hook of somebody else takes DDP's one slot: every factor is put on arrival.
    state, hook = compress if isinstance(compress, tuple) else (ddp.process_group, compress)
    ddp.register_comm_hook(state, hook)
    return UnderHook(ddp, managed, world)


def _one_group(
    group: dist.ProcessGroup | None, mesh: DeviceMesh | None
) -> dist.ProcessGroup | None:
    """Return the group, however it was given."""
    if mesh is None:
        return group
    if group is not None:
        raise VariableTypeError(
            "data_parallel() was given a group twice.",
            "device_mesh= names the ranks of a process group too.",
            "Pass process_group= or device_mesh=.",
        )
    ranks: dist.ProcessGroup = mesh.get_group(mesh_dim=0)
    return ranks


def _refuse_wrapped(model: nn.Module) -> None:
    if isinstance(model, DistributedDataParallel):
        raise VariableTypeError(
            "The model is wrapped in DistributedDataParallel already.",
            "Its gradients would be reduced twice.",
            "Pass the model itself, or give this one its policies with aggregate_gradients().",
        )
    sharded = [name for name, p in model.named_parameters() if is_sharded(p)]
    if sharded:
        raise DistributedError(
            f"Parameter {sharded[0]!r} of the model is a DTensor.",
            "DistributedDataParallel keeps whole parameters on each rank and cannot take shards.",
            "Give a model in fully_shard() its policies with aggregate_gradients(model).",
        )
