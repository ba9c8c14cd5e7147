"""Every private name of torch that this library uses, each behind a name of our own.

`tests/private` fails clearly when torch moves one of them, and when one is used elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchcreator._private._dispatch import (
    DispatchMode,
    OpOverload,
    TorchDispatchMode,
    dispatch_modes,
    dispatch_stack_depth,
    function_modes_active,
    no_dispatch_modes,
    no_function_modes,
    not_compiled,
    overload_name,
    past_dispatch,
    pop_dispatch_mode,
    push_dispatch_mode,
    schema_of,
)
from torchcreator._private._fakes import (
    fake_mode,
    faked,
    is_fake,
    is_fake_mode,
)
from torchcreator._private._hosts import (
    ShardedParameter,
    all_sharded_parameters,
    at_end_of_backward,
    current_graph_task,
    ignore_in_ddp,
    is_zero_redundancy,
    moved,
    overlaps_with_ddp,
    sharded_parameters,
    split_factor,
    steps_in_backward,
)
from torchcreator._private._modules import (
    LOADING,
    WRAPPINGS,
    is_normalisation,
    uncompiled,
)
from torchcreator._private._tensors import (
    can_share_data,
    exchange,
    flattened,
    foreach_clamp_max_,
    foreach_clamp_min_,
    foreach_copy_,
    foreach_mul_,
    foreach_zero_,
    is_plain_meta,
    lazy_view,
    same_generator,
    storage_key,
    typed_storage,
    unflattened,
    version,
    viewers,
    weak_storage,
    with_index,
)

if TYPE_CHECKING:
    from torchcreator._private._fakes import FakeTensorMode as FakeTensorMode
    from torchcreator._private._hosts import GradBucket as GradBucket

__all__ = [
    "LOADING",
    "WRAPPINGS",
    "DispatchMode",
    "OpOverload",
    "ShardedParameter",
    "TorchDispatchMode",
    "all_sharded_parameters",
    "at_end_of_backward",
    "can_share_data",
    "current_graph_task",
    "dispatch_modes",
    "dispatch_stack_depth",
    "exchange",
    "fake_mode",
    "faked",
    "flattened",
    "foreach_clamp_max_",
    "foreach_clamp_min_",
    "foreach_copy_",
    "foreach_mul_",
    "foreach_zero_",
    "function_modes_active",
    "ignore_in_ddp",
    "is_fake",
    "is_fake_mode",
    "is_normalisation",
    "is_plain_meta",
    "is_zero_redundancy",
    "lazy_view",
    "moved",
    "no_dispatch_modes",
    "no_function_modes",
    "not_compiled",
    "overlaps_with_ddp",
    "overload_name",
    "past_dispatch",
    "pop_dispatch_mode",
    "push_dispatch_mode",
    "same_generator",
    "schema_of",
    "sharded_parameters",
    "split_factor",
    "steps_in_backward",
    "storage_key",
    "typed_storage",
    "uncompiled",
    "unflattened",
    "version",
    "viewers",
    "weak_storage",
    "with_index",
]
