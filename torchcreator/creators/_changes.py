"""What a creator changed: keywords before and after, compared and put into words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from torchcreator import constraints
from torchcreator._build.finished_parameter import FinishedTarget
from torchcreator._build.recorded_parameter import TrueValue
from torchcreator._errors import called, shown
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization

_WORKED_OUT = ("dtype", "device", "shape")
"""Keywords whose None stands for what the value, or the waiting parameter, has."""
_LOCALS = re.compile(r"[\w.]+\.<locals>\.")
"""Where a function was defined: its name is what tells."""
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_LONGEST = 120


def differs(keyword: str, before: Any, after: Any) -> bool:
    """Return whether a keyword was changed; a default that was worked out is no change.

    Args:
        keyword: Which one.
        before: Its value as it came.
        after: Its value as it went on, or what the parameter became.
    """
    before, after = _plain(keyword, before), _plain(keyword, after)
    if before is after or (keyword in _WORKED_OUT and None in (before, after)):
        return False
    if isinstance(before, torch.device) and isinstance(after, torch.device):
        # "cuda" is whichever one is current.
        indices = {before.index, after.index} - {None}
        return before.type != after.type or len(indices) > 1
    if isinstance(before, torch.Tensor) or isinstance(after, torch.Tensor):
        return True
    try:
        return bool(before != after)
    except Exception:  # two arrays of several elements, say: they are not the same object
        return True


def in_words(keyword: str, value: Any) -> str:
    """Return the value of a keyword as a report shows it, the same in every process."""
    value = _plain(keyword, value)
    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        text = f"{type(value).__name__} {tuple(value.shape)} {dtype}"
    elif isinstance(value, (VariableAggregation, VariableSynchronization)):
        text = value.name
    elif isinstance(value, (torch.dtype, torch.device, str)):
        text = str(value)
    elif keyword == "module":
        text = type(value).__name__
    elif keyword == "initial_value" and (
        value is None or isinstance(value, (TrueValue, FinishedTarget))
    ):
        text = "its own"
    else:
        text = called(value) if callable(value) else shown(value)
    text = _LOCALS.sub("", _ADDRESS.sub("", text.removeprefix("torch.")))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _plain(keyword: str, value: Any) -> Any:
    """Return what a value stands for; one that stands for nothing is left for others to refuse."""
    known = _READERS.get(keyword)
    try:
        return value if known is None else known(value)
    except (TypeError, ValueError, RuntimeError):
        return value


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "trainable": lambda value: value is None or bool(value),
    "synchronization": VariableSynchronization.of,
    "aggregation": VariableAggregation.of,
    "constraint": constraints.get,
    "device": _optional(torch.device),
    "caching_device": _optional(torch.device),
    "shape": _optional(tuple),
    "tags": lambda value: dict(value or {}),
}
