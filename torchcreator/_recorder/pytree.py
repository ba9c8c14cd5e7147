"""The arguments of a torch operation: tensors nested in tuples, lists and dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

META = torch.device("meta")


def tensors_in(*values: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested tuples, lists and dicts of arguments."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif type(value) in (tuple, list):
            yield from tensors_in(*value)
        elif type(value) is dict:
            yield from tensors_in(*value.values())


def mapped(value: Any, function: Callable[[torch.Tensor], Any]) -> Any:
    """Return arguments with each tensor replaced by ``function(tensor)``."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if type(value) in (tuple, list):
        return type(value)(mapped(item, function) for item in value)
    if type(value) is dict:
        return {word: mapped(item, function) for word, item in value.items()}
    return value


def argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int | str) -> Any:
    """Return the argument at a position or keyword, or None where it was not given."""
    if isinstance(place, str):
        return kwargs.get(place)
    return args[place] if place < len(args) else None


def blank(tensor: torch.Tensor) -> torch.Tensor:
    """Return a meta tensor of the same shape, strides and dtype."""
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=META)


def hollow(value: Any) -> Any:
    """Return arguments with meta tensors in place of real ones."""
    return mapped(value, lambda tensor: tensor if tensor.is_meta else blank(tensor))
