"""Those who have a model's parameters or gradients in hand: backward, DDP, FSDP2, optimizers."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchcreator._torch.dtensor import is_sharded

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
    active: DistributedDataParallel | None = DistributedDataParallel._get_active_ddp_module()
    return active


def joins_unevenly(ddp: DistributedDataParallel) -> bool:
    """Return whether a DDP is in ``join()`` and divides by the number of ranks still there."""
    config: Any = ddp._join_config
    return bool(config.enable) and not ddp._divide_by_initial_world_size


def joins(ddp: DistributedDataParallel) -> bool:
    """Return whether a DDP is in ``join()``."""
    config: Any = ddp._join_config
    return bool(config.enable)


def ddp_parameters() -> set[int]:
    """Return the ids of all parameters that some DDP of this process reduces.

    It looks for all who refer to the class of DDP, so it is not for every step.
    """
    return {
        id(held)
        for ddp in gc.get_referrers(DistributedDataParallel)
        # One that another thread is still making has neither.
        if isinstance(ddp, DistributedDataParallel) and hasattr(ddp, "parameters_to_ignore")
        for name, held in ddp.module.named_parameters(remove_duplicate=False)
        if name not in ddp.parameters_to_ignore
    }


def optimizer_with(ids: Container[int]) -> tuple[torch.optim.Optimizer, torch.Tensor] | None:
    """Return an optimizer that has one of some parameters, by their ids, and the parameter.

    It looks for all who refer to a class of optimizers, so it is not for every step. One that
    nobody has any more, which is collected first, does not count.
    """
    if _optimizer_with(ids) is None:
        return None
    gc.collect()
    return _optimizer_with(ids)


def _optimizer_with(ids: Container[int]) -> tuple[torch.optim.Optimizer, torch.Tensor] | None:
    kinds = [torch.optim.Optimizer]
    for kind in kinds:
        kinds += kind.__subclasses__()
    for holder in gc.get_referrers(*kinds):
        # Not isinstance: that asks proxies for their class. One that is still made has no groups.
        if issubclass(type(holder), torch.optim.Optimizer):
            for group in getattr(holder, "param_groups", ()):
                for parameter in group["params"]:
                    if id(parameter) in ids:
                        return holder, parameter
    return None


def sharding_host(modules: Iterable[nn.Module]) -> str | None:
    """Return who has sharded one of some modules, FSDP2 or its predecessor, if one has."""
    fsdp: Any = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None:
        return None
    for kind in {type(module) for module in modules}:
        if issubclass(kind, (fsdp.FSDPModule, fsdp.FullyShardedDataParallel)):
            return "fully_shard" if issubclass(kind, fsdp.FSDPModule) else kind.__name__
    return None


def is_fully_sharded(module: nn.Module) -> bool:
    """Return whether FSDP2 shards a module's parameters."""
    fsdp: Any = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(module, fsdp.FSDPModule)


inside_of = attrgetter("_cdata")
"""Return the address of what is inside a tensor object, and has its hooks.

`swap_tensors` exchanges it. An address means something while its tensor lives: an AccumulateGrad
node that somebody keeps, keeps it.
"""


@dataclass(frozen=True, eq=False)
class ShardedParameter:
    """A parameter in the hands of FSDP2, and this rank's place in its data-parallel mesh."""

    sharded: nn.Parameter
    rank: int
    size: int
    _parameter: Any
    _group: Any

    @property
    def whole(self) -> nn.Parameter | None:
        """The whole parameter, None before its first all-gather."""
        return getattr(self._parameter, "_unsharded_param", None)

    @property
    def divisor(self) -> float | None:
        """What gradients are divided by in place of the size, where that was set."""
        factor: float | None = self._group.gradient_divide_factor
        return factor

    def divisor_later(self) -> Callable[[], float]:
        """Return a function that returns what gradients are divided by; it keeps nothing alive."""
        group, size = weakref.ref(self._group), self.size

        def divisor() -> float:
            alive = group()
            factor = None if alive is None else alive.gradient_divide_factor
            return size if factor is None else float(factor)

        return divisor


def sharded_parameters(module: nn.Module) -> list[ShardedParameter]:
    """Return what one FSDP2 module shards itself.

    Rank and size are those of FSDP's own mesh: with tensor parallelism a parameter's mesh is
    bigger, and FSDP divides gradients by the size of its own.
    """
    return [
        ShardedParameter(
            sharded=parameter.sharded_param,
            rank=getattr(group.mesh_info, "shard_mesh_rank", 0)
            + getattr(group.mesh_info, "shard_mesh_size", 1)
            * getattr(group.mesh_info, "replicate_mesh_rank", 0),
            size=getattr(group.mesh_info, "shard_mesh_size", 1)
            * getattr(group.mesh_info, "replicate_mesh_size", 1),
            _parameter=parameter,
            _group=group,
        )
        for group in sharding_groups(module)
        for parameter in group.fsdp_params
    ]


def sharding_groups(module: nn.Module) -> list[Any]:
    """Return FSDP2's own records of what one module shards, gathers and reduces together."""
    state: Any = module._get_fsdp_state()  # type: ignore[operator]
    groups: list[Any] | None = getattr(state, "_fsdp_param_groups", None)
    if groups is None:  # torch < 2.12 has at most one
        groups = [state._fsdp_param_group] if state._fsdp_param_group else []
    return groups


def all_sharded_parameters() -> list[ShardedParameter]:
    """Return every parameter that FSDP2 shards in this process."""
    states: Any = sys.modules.get("torch.distributed._composable_state")
    modules = [] if states is None else list(states._module_state_mapping)
    return [p for m in modules if hasattr(m, "_get_fsdp_state") for p in sharded_parameters(m)]


def is_sharded_by_fsdp(parameter: torch.Tensor) -> bool:
    """Return whether FSDP2 has this parameter in shards, on several ranks."""
    known = all_sharded_parameters() if is_sharded(parameter) else ()
    return any(p.sharded is parameter and p.size > 1 for p in known)


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


def overlapping_optimizer(ddp: DistributedDataParallel) -> torch.optim.Optimizer | None:
    """Return the ZeroRedundancyOptimizer that a DDP's communication hook steps, if one does."""
    for hook, _ in ddp._comm_hooks:
        for cell in getattr(hook, "__closure__", None) or ():
            held: Any = cell.cell_contents
            if issubclass(type(held), torch.optim.Optimizer) and is_zero_redundancy(held):
                optimizer: torch.optim.Optimizer = held
                return optimizer
    return None


def step_on_every_rank(optimizer: Any, parameters: list[torch.Tensor]) -> None:
    """Let a ZeroRedundancyOptimizer step parameters on every rank, and send them to none.

    It gives each parameter to one rank, which steps it and overwrites the others'.

    Args:
        optimizer: The optimizer; it does not overlap with DDP.
        parameters: Those of its parameters that have a value per rank.
    """
    apart = {id(p) for p in parameters}
    own = {id(p) for group in optimizer.optim.param_groups for p in group["params"]}
    partition = optimizer._partition_parameters()
    if not any(id(p) in apart for groups in partition for g in groups for p in g["params"]):
        return
    for i, group in enumerate(optimizer.param_groups):
        local = optimizer.optim.param_groups[i]
        more = [p for p in group["params"] if id(p) in apart and id(p) not in own]
        # Another dictionary: this one is also that of the partition.
        optimizer.optim.param_groups[i] = {**local, "params": [*local["params"], *more]}
    for groups in partition:
        for group in groups:
            group["params"] = [p for p in group["params"] if id(p) not in apart]
    optimizer._device_to_params_per_rank_cache.clear()
    optimizer._build_param_buckets()


def is_averaged_afterwards(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a PostLocalSGDOptimizer averages parameters after this one's steps.

    It looks for all who refer to that class, so it is not for every step.
    """
    module: Any = sys.modules.get("torch.distributed.optim.post_localSGD_optimizer")
    if module is None:
        return False
    kind = module.PostLocalSGDOptimizer
    return any(type(o) is kind and o.optim is optimizer for o in gc.get_referrers(kind))


def steps_in_backward(parameter: nn.Parameter) -> bool:
    """Return whether an optimizer steps this parameter inside the backward."""
    return hasattr(parameter, "_in_backward_optimizers")
