"""The shape, dtype and device that people ask for, as torch's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

import torch
from torch import nn
from torch.distributed import GroupMember, ProcessGroup

from torchcreator._errors import UNNAMED, VariableTypeError, VariableValueError, shown
from torchcreator._spec.spec import LostGroup
from torchcreator._torch.dispatch import dispatch_modes, no_dispatch_modes, no_function_modes
from torchcreator._torch.fakes import is_fake_mode
from torchcreator.constraints._base import Projection


def checked_form(
    shape: Any, dtype: Any, device: Any, name: str
) -> tuple[torch.Size | None, torch.dtype | None, torch.device | None]:
    """Return shape, dtype and device as torch's own, each of which may be None."""
    if shape.__class__ is not torch.Size:  # a stock module's parameter brings it as it is
        shape = checked_shape(shape, name)
    if dtype.__class__ is not torch.dtype:
        dtype = checked_dtype(dtype, name)
    if device.__class__ is not torch.device or device not in _used:
        device = checked_device(device, name)
    return shape, dtype, device


_NO_SHAPES = (str, bytes, bytearray, memoryview, Set, Mapping, Iterator)
"""What yields integers and is no shape: text, what has no order, what is empty the next time."""


def checked_shape(shape: Any, name: str) -> torch.Size | None:
    """Return ``shape`` as a ``torch.Size``, or None for None."""
    if shape is None:
        return None
    try:
        size = None if isinstance(shape, _NO_SHAPES) else torch.Size(shape)
    except Exception:  # iterating over somebody's object may raise anything
        size = None
    if size is None:
        raise VariableTypeError(
            f"The shape of variable {name!r} is {shown(shape)}.",
            "A shape is a sequence of integers.",
            "Write it as a tuple, shape=(out_features, in_features), say.",
        )
    if any(length < 0 for length in size):
        raise VariableValueError(
            f"The shape of variable {name!r} is {tuple(size)}.",
            "A dimension cannot be negative: nothing is there to infer it from.",
            "Write every dimension as a number from 0 upwards.",
        )
    return size


def checked_dtype(dtype: Any, name: str) -> torch.dtype | None:
    """Return ``dtype`` if it is one or None."""
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    raise VariableTypeError(
        f"The dtype of variable {name!r} is {shown(dtype)}, a {type(dtype).__name__}.",
        "A parameter's dtype is one of torch's.",
        "Pass a torch.dtype, dtype=torch.float32, say.",
    )


def checked_device(device: Any, name: str, keyword: str = "device") -> torch.device | None:
    """Return ``device`` as a ``torch.device`` that this machine has, or None for None."""
    if device is None:
        return None
    if not isinstance(device, (torch.device, str, int)):
        raise VariableTypeError(
            f"The {keyword} of variable {name!r} is {shown(device)}.",
            "A device is a torch.device, its name, or the number of an accelerator.",
            f"Pass a device that this machine has, {keyword}='cpu', say.",
        )
    try:
        return _usable(device)
    except (RuntimeError, AssertionError, TypeError, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise VariableValueError(
            f"The {keyword} of variable {name!r} is {shown(device)}.",
            f"torch cannot use it here: {reason}",
            f"Pass a device that this machine has, {keyword}='cpu', say.",
        ) from error


_used: set[torch.device] = set()
"""A device that could be used once need not be tried for each variable."""


def _usable(device: Any) -> torch.device:
    checked = torch.device(device)
    if checked not in _used:
        if checked.type not in ("cpu", "meta"):
            if any(map(is_fake_mode, dispatch_modes())):
                return checked  # fake tensors are on any device, which is no less absent for it
            with no_dispatch_modes(), no_function_modes():  # a recorder would make no tensor
                torch.empty(0, device=checked)
        _used.add(checked)
    return checked


def check_group(group: Any, label: str) -> None:
    """Refuse what is no process group."""
    # One that was lost in a pickle is told where somebody is to communicate over it.
    if group is None or isinstance(group, (ProcessGroup, LostGroup)):
        return
    if group is GroupMember.NON_GROUP_MEMBER:
        return
    raise VariableTypeError(
        f"The process_group of variable {label!r} is {shown(group)}.",
        "A variable is aggregated over a group of torch.distributed.",
        "Pass what torch.distributed.new_group(...) returned, or None for the default group.",
    )


def own_tags(tags: Any, label: str) -> dict[str, Any] | None:
    """Return a copy of the tags: what the caller does to his later is his."""
    if tags is None:
        return None
    try:
        if isinstance(tags, Mapping):
            return dict(tags)
    except Exception:  # a mapping of somebody's own class may raise anything
        pass
    raise VariableTypeError(
        f"The tags of variable {label!r} are {shown(tags)}.",
        "Tags are what the caller tells the creators, by name.",
        "Pass a mapping, tags={'decay': False}, say.",
    )


def check_choice(validate_shape: Any, label: str) -> None:
    """Refuse a ``validate_shape`` that is neither True nor False."""
    if validate_shape is True or validate_shape is False:
        return
    raise VariableTypeError(
        f"The validate_shape of variable {label!r} is {shown(validate_shape)}.",
        "The shape either has to be known, or need not be.",
        "Pass True, or False to allow an unknown shape.",
    )


def checked_trainable(trainable: Any, dtype: torch.dtype, label: str) -> bool:
    """Return what was asked for, if it is possible."""
    if not isinstance(trainable, bool):
        raise VariableTypeError(
            f"The trainable of variable {label!r} is {shown(trainable)}.",
            "It becomes requires_grad, which is True or False.",
            "Pass True, False, or None for the default.",
        )
    if trainable and not (dtype.is_floating_point or dtype.is_complex):
        raise VariableTypeError(
            f"Variable {label!r} is trainable with dtype {dtype}.",
            "Only floating and complex tensors have gradients.",
            "Pass trainable=False, or a floating dtype.",
        )
    return trainable


def refuse_constraint(value: object, label: str) -> None:
    """Raise if a constraint stands where an initial value belongs."""
    if isinstance(value, Projection):
        raise VariableTypeError(
            f"The initial value of variable {label!r} is a constraint: {value!r}.",
            "A constraint changes a value that is there, and makes none.",
            "Pass it as constraint=, and a value or an initialiser as initial_value.",
        )


def label_of(name: Any, module: nn.Module | None) -> str:
    """Return the variable's name as error messages show it."""
    label: str = UNNAMED if name is None else name
    if not isinstance(label, str) or not label:
        raise (VariableValueError if isinstance(name, str) else VariableTypeError)(
            f"The name of a variable is {shown(name)}.",
            "A name is a non-empty string; '/' and '.' in it make paths.",
            "Write name='encoder/gain', say, or leave it out.",
        )
    if module is None:
        return label
    if not isinstance(module, nn.Module):
        raise VariableTypeError(
            f"The module of variable {label!r} is {shown(module)}.",
            "It is the torch.nn.Module that will own the variable.",
            "Pass that module, or leave it out.",
        )
    return f"{type(module).__name__}.{label}"
