"""Who in a finished model still looks at the memory that a parameter had before."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torchcreator._build.finished_parameter import FinishedTarget
from torchcreator._call_site import warn
from torchcreator._recorder.live_tensors import named_tensors
from torchcreator._torch.dispatch import no_function_modes
from torchcreator._torch.tensors import wraps_others


def warn_of_views(model: nn.Module, moved: Sequence[FinishedTarget]) -> None:
    """Warn of tensors that viewed a parameter, or shared its memory, and do so no more.

    Args:
        model: The model, as it is now.
        moved: Those of its parameters that have other memory than before.
    """
    with no_function_modes():  # a constructor may be recorded, whose tensors have no memory
        for name, parameter in _left_behind(model, moved):
            warn(
                f"{parameter!r} has other memory now, and {name!r} still looks at the old one.",
                "In another dtype, on another device or as another parameter it cannot stay where "
                "it was, and recreate() does not know how the other one was made of it.",
                f"Make {name!r} anew; or keep dtype and device, where it follows by itself.",
            )


def _left_behind(model: nn.Module, moved: Sequence[FinishedTarget]) -> Iterator[tuple[str, str]]:
    """Yield the name of each tensor in old memory, and of the parameter that had it."""
    before = [
        (*extent, target.name)
        for target in moved
        if (extent := _extent(target.parameter if target.old is None else target.old))
    ]
    before.sort()
    starts = [start for start, _, _ in before]
    meant = {id(target.returned) for target in moved}
    for name, tensor, _ in named_tensors(model) if before else ():
        extent = None if id(tensor) in meant else _extent(tensor)
        if extent is None:
            continue
        at = bisect_right(starts, extent[1] - 1) - 1
        if at >= 0 and before[at][1] > extent[0]:
            yield name, before[at][2]


def _extent(tensor: torch.Tensor) -> tuple[int, int] | None:
    """Return where a tensor's memory begins and ends; None if it has none to be seen."""
    lazy: bool = is_lazy(tensor)
    if lazy or wraps_others(tensor) or tensor.layout is not torch.strided or tensor.is_meta:
        return None
    if not tensor.numel():
        return None
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.data_ptr()
    return start, start + (last + 1) * tensor.element_size()
