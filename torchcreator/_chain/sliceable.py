"""Initial values of which a part can be had without the rest: arrays, files, recorded values.

One has a ``shape``, or a ``get_shape()``, and returns a part where it is indexed by a tuple of
slices of step 1, one for each dimension.
"""

from __future__ import annotations

from typing import Any

import torch

from torchcreator._recorder.boxes import Box, whole


def sliceable_shape(value: Any) -> torch.Size | None:
    """Return the shape of a value that can be sliced, None for any other value."""
    if not hasattr(type(value), "__getitem__"):
        return None
    shape = getattr(value, "shape", None)
    if shape is None:
        ask = getattr(value, "get_shape", None)
        shape = ask() if callable(ask) else None
    try:
        return None if shape is None else torch.Size(shape)
    except (TypeError, RuntimeError):
        return None


def box_of(value: Any, box: Box) -> Any:
    """Return a part of a value that can be sliced."""
    return value[tuple([slice(start, stop) for start, stop in box]) if box else ...]


def all_of(value: Any) -> Any:
    """Return all of a value that can be sliced; of any other, what it is.

    A dataset in a file says that it converts to an array, and does that at once; torch would ask
    for one element after the other.
    """
    if hasattr(value, "__array_interface__"):  # an array itself, which torch reads
        return value
    if hasattr(value, "__array__"):
        return value.__array__()
    shape = sliceable_shape(value)
    return value if shape is None else box_of(value, whole(shape))
