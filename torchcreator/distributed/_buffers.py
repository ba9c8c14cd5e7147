"""How buffers of several ranks become one: by their module's type, or as declared."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from torchcreator._errors import VariableValueError, did_you_mean
from torchcreator._spec.enums import VariableAggregation
from torchcreator._torch.modules import is_normalisation, joined

_POLICIES = "_torchcreator_buffers"  # in the module's __dict__, so that it is copied with it


def aggregate_buffer(
    module: nn.Module, name: str, aggregation: VariableAggregation | str | None
) -> None:
    """Declare how `synchronize` makes one value of a buffer's values on several ranks.

    Running statistics of batch and instance normalisation are averaged without being asked, and
    their counters are the first rank's; other buffers are left alone. A declared buffer has a
    value per rank: `data_parallel` does not let DDP overwrite it at each forward.

    Args:
        module: The module that owns the buffer.
        name: The buffer's name there.
        aggregation: SUM, MEAN or ONLY_FIRST_REPLICA; NONE leaves the buffer alone.

    Raises:
        VariableValueError: The module has no such buffer, or MEAN was asked of integers.

    Example:
        >>> import torch, torchcreator as tc
        >>> norm = torch.nn.BatchNorm1d(3)
        >>> tc.distributed.aggregate_buffer(norm, "running_var", "only_first_replica")
    """
    if name not in module._buffers:
        raise VariableValueError(
            f"{type(module).__name__} has no buffer {name!r}{did_you_mean(name, module._buffers)}.",
            "A policy is declared where the buffer is registered, by its name there.",
            f"Use one of {', '.join(map(repr, module._buffers)) or '(it has none)'}.",
        )
    policy = VariableAggregation.of(aggregation, name)
    buffer = module._buffers[name]
    if policy is VariableAggregation.MEAN and buffer is not None and not _averages(buffer):
        raise VariableValueError(
            f"Buffer {name!r} is {buffer.dtype}, and its aggregation is to be MEAN.",
            "The mean of integers is rarely one.",
            "Use 'sum' or 'only_first_replica'.",
        )
    module.__dict__.setdefault(_POLICIES, {})[name] = policy


def declared_policies(
    model: nn.Module,
) -> Iterator[tuple[str, torch.Tensor, VariableAggregation]]:
    """Yield full name, tensor and policy of each buffer with a declared one."""
    for path, module in model.named_modules():
        for name, policy in module.__dict__.get(_POLICIES, {}).items():
            buffer = module._buffers.get(name)
            if buffer is not None and policy is not VariableAggregation.NONE:
                yield joined(path, name), buffer, policy


def aggregated_buffers(
    model: nn.Module,
) -> Iterator[tuple[str, torch.Tensor, VariableAggregation]]:
    """Yield each buffer that `synchronize` brings together, once, with its full name."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        declared = module.__dict__.get(_POLICIES, {})
        for name, buffer in module._buffers.items():
            if buffer is None or id(buffer) in seen:
                continue
            policy = declared.get(name) or _by_type(module, buffer)
            if policy is not VariableAggregation.NONE:
                seen.add(id(buffer))
                yield joined(path, name), buffer, policy


def _by_type(module: nn.Module, buffer: torch.Tensor) -> VariableAggregation:
    # Not "all floating buffers": a mask of the least float would overflow, and nobody asked.
    if not is_normalisation(module):
        return VariableAggregation.NONE
    if _averages(buffer):
        return VariableAggregation.MEAN
    return VariableAggregation.ONLY_FIRST_REPLICA


def _averages(buffer: torch.Tensor) -> bool:
    return buffer.is_floating_point() or buffer.is_complex()
