"""The part of an initial value that is to be made here, for a parameter that ranks share out."""

from __future__ import annotations

from typing import Any

import torch

from torchcreator._chain.initial_value import Wanted, asked_for, check_shape, check_tensor, whole_of
from torchcreator._chain.sliceable import box_of, sliceable_shape
from torchcreator._chain.target import Target
from torchcreator._errors import VariableTypeError, VariableValueError
from torchcreator._recorder.boxes import Box, boxes_of, cut, size_of, size_of_region
from torchcreator._torch.dtensor import is_sharded


def part_of(value: Any, waiting: Target, wanted: Wanted) -> torch.Tensor | None:
    """Return the part of an initial value that a target waits for, in memory of its own.

    What can be sliced is asked for that part alone. Anything else is made whole, and cut: what it
    computes may depend on all of it.

    Args:
        value: The initial value.
        waiting: The target, which has a region, and tells the shape and dtype where they are not
            asked for.
        wanted: What is asked of the whole value.

    Returns:
        The part; None on meta, where nobody will look, and in another dtype than the target has,
        which it refuses.
    """
    region, like = waiting.region, waiting.parameter
    on_meta = wanted.device is not None and wanted.device.type == "meta"
    if on_meta or wanted.dtype not in (None, like.dtype):
        return None
    assert region is not None  # else it waits for the whole
    if wanted.shape is None:
        wanted = wanted._replace(shape=like.shape)
    size = size_of_region(region)
    if not size.numel():
        return torch.empty(size, dtype=wanted.dtype or like.dtype, device=wanted.device)
    shape = sliceable_shape(value)
    if shape is None:
        value = whole_of(value, wanted)
    else:
        check_shape(shape, wanted)
    parts = []
    with asked_for(wanted):
        for source, target in boxes_of(region):
            parts.append((target, _tensor(value, source, wanted)))
    if len(parts) == 1:
        ((_, part),) = parts
        return part.contiguous()
    made = torch.empty(size, dtype=parts[0][1].dtype, device=parts[0][1].device)
    for target, part in parts:
        cut(made, target).copy_(part)
    return made


def _tensor(value: Any, box: Box, wanted: Wanted) -> torch.Tensor:
    """Return a box of a value that can be sliced, as a tensor that nobody else holds."""
    part = box_of(value, box)
    if isinstance(part, torch.Tensor):
        if is_sharded(part):
            raise _sharded_itself(wanted)
        check_tensor(part, wanted)
        part = part.detach()
        if isinstance(value, torch.Tensor):
            part = part.clone()
    else:
        part = whole_of(part, wanted._replace(shape=None))
    if part.shape != size_of(box):
        raise VariableValueError(
            f"The initial value of variable {wanted.name!r} gave another part than it was asked "
            "for.\n"
            f"  expected: {tuple(size_of(box))}\n"
            f"  actual:   {tuple(part.shape)}",
            "It is indexed by a slice for each dimension, as an array is.",
            "Return what a tensor of that shape would; or pass a callable, which is made whole.",
        )
    return part if wanted.device is None else part.to(wanted.device)


def _sharded_itself(wanted: Wanted) -> VariableTypeError:
    return VariableTypeError(
        f"The initial value of variable {wanted.name!r} is sharded itself.",
        "A part of the whole would be gathered from other ranks, and creation never communicates.",
        "Pass the whole value, a callable that returns it, or what can be sliced without others.",
    )
