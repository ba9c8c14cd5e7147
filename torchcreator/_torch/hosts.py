"""Those who have a model's parameters or gradients in hand: backward, DDP, FSDP2, optimizers."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from torch._C._distributed_c10d import GradBucket as GradBucket

current_graph_task = torch._C._current_graph_task_id
"""Return the number of the backward that is running in this thread, -1 outside any."""


def at_end_of_backward(callback: Callable[[], None]) -> None:
    """Call ``callback`` once, when the running backward is through, before it returns."""
    torch.autograd.Variable._execution_engine.queue_callback(callback)


def ignore_in_ddp(model: nn.Module, names: set[str]) -> Callable[[], None]:
    """Keep parameters and buffers, besides those it keeps out already, out of a model's DDP.

    Returns:
        What takes that back, for where no DDP was made of the model after all.
    """
    attribute = "_ddp_params_and_buffers_to_ignore"
    former = vars(model).get(attribute)
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(
        model, sorted({*(former or ()), *names})
    )

    def undo() -> None:
        vars(model).pop(attribute)
        if former is not None:
            setattr(model, attribute, former)

    return undo


def active_ddp() -> DistributedDataParallel | None:
    """Return the DDP whose forward is running, the innermost of several."""
    return DistributedDataParallel._active_ddp_module


def held_by_ddp(parameter: torch.Tensor) -> bool:
    """Return whether a DDP of somebody's has a parameter and does not ignore it.

    It looks for all who refer to the class of DDP, so it is not for every step.
    """
    return any(
        held is parameter and name not in ddp.parameters_to_ignore
        for ddp in gc.get_referrers(DistributedDataParallel)
        if isinstance(ddp, DistributedDataParallel)
        for name, held in ddp.module.named_parameters(remove_duplicate=False)
    )


accumulation_hooks = attrgetter("_post_accumulate_grad_hooks")
"""Return the hooks that run when a parameter has its gradient, in the dictionary that holds them.

Whatever gives a parameter another tensor inside, as `swap_tensors` does, takes the hooks away.
"""


@dataclass(frozen=True, eq=False)
class ShardedParameter:
    """A parameter in the hands of FSDP2, and this rank's place in its data-parallel mesh."""

    sharded: nn.Parameter
    whole: nn.Parameter | None
    rank: int
    size: int


def sharded_parameters(module: nn.Module) -> list[ShardedParameter]:
    """Return what one FSDP2 module shards itself; ``whole`` is None before its first all-gather.

    Rank and size are those of FSDP's own mesh: with tensor parallelism a parameter's mesh is
    bigger, and FSDP divides gradients by the size of its own.
    """
    state: Any = module._get_fsdp_state()  # type: ignore[operator]
    groups = getattr(state, "_fsdp_param_groups", None)
    if groups is None:  # torch < 2.12 has at most one
        groups = [state._fsdp_param_group] if state._fsdp_param_group else []
    return [
        ShardedParameter(
            sharded=parameter.sharded_param,
            whole=getattr(parameter, "_unsharded_param", None),
            rank=getattr(group.mesh_info, "shard_mesh_rank", 0)
            + getattr(group.mesh_info, "shard_mesh_size", 1)
            * getattr(group.mesh_info, "replicate_mesh_rank", 0),
            size=getattr(group.mesh_info, "shard_mesh_size", 1)
            * getattr(group.mesh_info, "replicate_mesh_size", 1),
        )
        for group in groups
        for parameter in group.fsdp_params
    ]


def all_sharded_parameters() -> list[ShardedParameter]:
    """Return every parameter that FSDP2 shards in this process."""
    states: Any = sys.modules.get("torch.distributed._composable_state")
    modules = [] if states is None else list(states._module_state_mapping)
    return [p for m in modules if hasattr(m, "_get_fsdp_state") for p in sharded_parameters(m)]


def moved(module: nn.Module) -> None:
    """Let an FSDP2 module take notice that its own sharded parameters have other memory."""
    module._apply(lambda tensor: tensor, recurse=False)


def split_factor(placement: object) -> int | None:
    """Return the factor of a strided shard (FSDP2 over tensor parallelism), None for others."""
    factor: int | None = getattr(placement, "split_factor", None)
    return factor


def is_zero_redundancy(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether this is a ZeroRedundancyOptimizer, without importing its module."""
    module: Any = sys.modules.get("torch.distributed.optim.zero_redundancy_optimizer")
    return module is not None and isinstance(optimizer, module.ZeroRedundancyOptimizer)


def overlaps_with_ddp(optimizer: Any) -> bool:
    """Return whether a ZeroRedundancyOptimizer steps inside DDP's backward."""
    return bool(optimizer._overlap_with_ddp)


def steps_in_backward(parameter: nn.Parameter) -> bool:
    """Return whether an optimizer steps this parameter inside the backward."""
    return hasattr(parameter, "_in_backward_optimizers")
