"""Every private name of torch that this library uses, each behind a function of our own.

`tests/test_private.py` fails clearly when torch moves one of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import CodeType
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode_stack,
    _pop_mode,
    _push_mode,
)

_F = TypeVar("_F", bound=Callable[..., Any])


dispatch_stack_depth = torch._C._len_torch_dispatch_stack
"""Return how many dispatch modes are active in this thread."""


def push_dispatch_mode(mode: TorchDispatchMode) -> None:
    """Put a mode on top of this thread's dispatch stack."""
    _push_mode(mode)


def pop_dispatch_mode() -> TorchDispatchMode:
    """Take the top mode off this thread's dispatch stack."""
    mode: TorchDispatchMode = _pop_mode()
    return mode


def can_share_data(parameter: torch.Tensor, data: torch.Tensor) -> bool:
    """Return whether ``parameter.data = data`` is possible (not from CPU to meta, say)."""
    return bool(torch._has_compatible_shallow_copy_type(parameter, data))


def foreach_clamp_min_(tensors: list[torch.Tensor], bound: float) -> None:
    """Raise the elements of tensors of one dtype and device to ``bound``, in place."""
    torch._foreach_clamp_min_(tensors, bound)


def foreach_clamp_max_(tensors: list[torch.Tensor], bound: float) -> None:
    """Lower the elements of tensors of one dtype and device to ``bound``, in place."""
    torch._foreach_clamp_max_(tensors, bound)


def foreach_copy_(tensors: list[torch.Tensor], values: tuple[torch.Tensor, ...]) -> None:
    """Write each value into its tensor."""
    torch._foreach_copy_(tensors, values)


def version(tensor: torch.Tensor) -> int:
    """Return a number that rises with every in-place write to ``tensor``."""
    return tensor._version


def ignore_in_ddp(model: nn.Module, names: list[str]) -> None:
    """Keep parameters and buffers of a model out of the DDP that will wrap it."""
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)


def storage_key(tensor: torch.Tensor) -> int:
    """Return the address of the tensor's storage: its identity while something keeps it alive."""
    return int(torch._C._storage_id(tensor))  # type: ignore[attr-defined]


def lazy_view(tensor: torch.Tensor, *, conj: bool, neg: bool) -> torch.Tensor:
    """Return the tensor with its conjugate and negative bits set."""
    if conj:
        tensor = torch._conj(tensor)
    return torch._neg_view(tensor) if neg else tensor


def no_function_modes() -> AbstractContextManager[object]:
    """Return a context in which no ``__torch_function__``, of a mode or a subclass, is called."""
    context: AbstractContextManager[object] = torch._C.DisableTorchFunction()
    return context


def exchange(first: torch.Tensor, second: torch.Tensor) -> None:
    """Exchange what two tensor objects hold; the objects keep class, attributes and identity.

    `torch.utils.swap_tensors` refuses a tensor that another one views or that has a weak
    reference; where all views of a storage are exchanged together, both are harmless.
    """
    torch._C._swap_tensor_impl(first, second)


def dispatch_modes() -> list[TorchDispatchMode]:
    """Return the dispatch modes active in this thread, the outermost first."""
    return list(_get_current_dispatch_mode_stack())


def no_dispatch_modes() -> AbstractContextManager[object]:
    """Return a context in which no ``__torch_dispatch__`` is called."""
    context: AbstractContextManager[object] = no_dispatch()
    return context


past_dispatch = torch._C._DisableTorchDispatch
"""Return an object that keeps dispatch modes from being called until it is deleted.

`no_dispatch_modes` does the same at ten times the price; make sure that `del` is reached.
"""


def viewers(storage: torch.UntypedStorage) -> int | None:
    """Return how many tensors look at a storage, or None where torch does not say.

    Besides them there is one reference to it, that of the storage object.
    """
    if _use_count is None:
        return None
    return int(_use_count(storage._cdata)) - 1


_use_count: Callable[[int], int] | None = getattr(torch._C, "_storage_Use_Count", None)


def is_zero_redundancy(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether this is a ZeroRedundancyOptimizer, without importing its module."""
    module: Any = sys.modules.get("torch.distributed.optim.zero_redundancy_optimizer")
    return module is not None and isinstance(optimizer, module.ZeroRedundancyOptimizer)


def overlaps_with_ddp(optimizer: Any) -> bool:
    """Return whether a ZeroRedundancyOptimizer steps inside DDP's backward."""
    return bool(optimizer._overlap_with_ddp)


current_graph_task = torch._C._current_graph_task_id
"""Return the number of the backward that is running in this thread, -1 outside any."""


def flattened(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Return the elements of dense tensors of one dtype and device in one row."""
    flat: torch.Tensor = torch._C._nn.flatten_dense_tensors(tensors)
    return flat


def unflattened(flat: torch.Tensor, like: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return views of a row, one for each tensor, of its shape."""
    return list(torch._C._nn.unflatten_dense_tensors(flat, like))


def at_end_of_backward(callback: Callable[[], None]) -> None:
    """Call ``callback`` once, when the running backward is through, before it returns."""
    torch.autograd.Variable._execution_engine.queue_callback(callback)


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


def is_plain_meta(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is on meta and has a storage of its own.

    A sparse one has none, and one that wraps others (a DTensor) has none that counts.
    """
    if not tensor.is_meta or type(tensor).__torch_dispatch__ is not _PLAIN_DISPATCH:
        return False
    return bool(torch._C._has_storage(tensor))


_PLAIN_DISPATCH = torch.Tensor.__torch_dispatch__


def not_compiled(function: _F) -> _F:
    """Keep torch.compile from looking into a function and what it calls.

    `torch.compiler.disable` does the same, but imports dynamo, a second, at the first call.
    """
    evaluation: Any = torch._C._dynamo.eval_frame
    code: CodeType = function.__code__
    if hasattr(evaluation, "_FrameAction"):
        skip = evaluation._FrameAction.SKIP
        evaluation.set_code_exec_strategy(code, evaluation._FrameExecStrategy(skip, skip))
    elif hasattr(evaluation, "skip_code"):  # torch 2.6
        evaluation.skip_code(code)
    else:
        hidden: _F = torch.compiler.disable(function)
        return hidden
    return function


def is_normalisation(module: nn.Module) -> bool:
    """Return whether a module keeps running statistics: batch and instance normalisation do."""
    return isinstance(module, _NormBase)


def with_index(device: torch.device) -> torch.device:
    """Return the device with the index of the current one where it has none."""
    if device.type in ("cpu", "meta"):  # there is one of these, by whatever index
        return torch.device(device.type)
    index: int | None = device.index  # torch's stub says that there always is one
    if index is not None:
        return device
    return torch.device(device.type, torch.get_device_module(device).current_device())


def same_generator(first: torch.Generator, second: torch.Generator) -> bool:
    """Return whether two objects are one generator: torch's dispatcher hands on a new object."""
    return bool(first._cdata == second._cdata)  # type: ignore[attr-defined]


def fake_mode() -> Any:
    """Return a new mode of fake tensors, which lets real ones take part in its operations."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes a while to import

    return FakeTensorMode(allow_non_fake_inputs=True)


def is_fake(tensor: torch.Tensor) -> bool:
    """Return whether this is a fake tensor."""
    module: Any = sys.modules.get("torch._subclasses.fake_tensor")
    return module is not None and isinstance(tensor, module.FakeTensor)


def faked(mode: Any, tensor: torch.Tensor, device: Any) -> torch.Tensor:
    """Return a fake tensor on any device, with the shape, strides and dtype of another tensor."""
    with mode:
        return torch.empty_strided(
            tensor.size(), tensor.stride(), dtype=tensor.dtype, device=device
        )


def split_factor(placement: object) -> int | None:
    """Return the factor of a strided shard (FSDP2 over tensor parallelism), None for others."""
    factor: int | None = getattr(placement, "split_factor", None)
    return factor


function_modes_active = torch._C._is_torch_function_mode_enabled
