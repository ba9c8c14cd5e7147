"""Creators that set keywords, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from typing_extensions import Unpack

from torchcreator import constraints
from torchcreator._errors import VariableTypeError, VariableValueError, did_you_mean, shown
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.types import (
    Creator,
    Device,
    InitialValue,
    NextCreator,
    Shape,
    VariableKwargs,
)
from torchcreator.constraints._base import Constraint
from torchcreator.creators._choice import Choice, ready

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Declared(Choice, total=False):
    """The keywords of a variable; ``name`` and ``module`` choose, as in `where`."""

    initial_value: InitialValue
    trainable: bool | None
    validate_shape: bool
    caching_device: Device | None
    dtype: torch.dtype | None
    constraint: Constraint | str | None
    synchronization: VariableSynchronization | str | None
    aggregation: VariableAggregation | str | None
    shape: Shape | None
    device: Device | None
    process_group: ProcessGroup | None
    tags: Mapping[str, Any] | None


def declare(**keywords: Unpack[Declared]) -> Creator:
    """Give every variable some keywords, in the place of those that it declares.

    What it does not set stays as it is. Tags are added to the variable's own.

    Args:
        **keywords: Keywords of `torchcreator.variable`; and, to choose variables, ``name=``,
            ``module=``, ``when=``, ``strict=``, as in `where`.

    Raises:
        VariableTypeError: A keyword is unknown, or of another type.
        VariableValueError: A word is not known, or there is nothing to declare.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> experts = tc.creators.declare(
        ...     synchronization="none", tags={"role": "expert"}, name="experts.*"
        ... )
        >>> def model():
        ...     return nn.ModuleDict({"gate": nn.Linear(2, 2), "experts": nn.Linear(2, 3)})
        >>> with tc.creator_scope(experts):
        ...     moe = tc.build(model, seed=0)
        >>> [name for name, _, spec in tc.named_specs(moe) if spec.synchronization == "none"]
        ['experts.weight', 'experts.bias']
    """
    choice = {word: value for word, value in keywords.items() if word in Choice.__annotations__}
    declared = {word: value for word, value in keywords.items() if word not in choice}
    if not declared:
        raise VariableValueError(
            f"declare got {shown(choice) if choice else 'no keyword'}.",
            "It gives variables keywords of theirs, and there is nothing to declare.",
            "Write declare(trainable=False, name='encoder.*'), say.",
        )
    words = [f"{word}={shown(value)}" for word, value in declared.items()]
    return declares("declare", *words, choice=choice, **declared)


def declares(word: str, *arguments: str, choice: Mapping[str, Any], **declared: Any) -> Creator:
    """Return a ready-made creator that sets keywords.

    Args:
        word: The name of the ready-made creator.
        *arguments: What it was called with, as it is to be shown.
        choice: What chooses, as `Choice` has it.
        **declared: The keywords.
    """
    for key, value in declared.items():
        if key not in _CHECKED:
            raise VariableTypeError(
                f"{word} got an unexpected keyword {key!r}{did_you_mean(key, _CHECKED)}.",
                f"A variable takes {', '.join(_CHECKED)}.",
                "Correct the keyword, or pass the value to the creators in tags={...}.",
            )
        declared[key] = _CHECKED[key](value, word)
    tags = declared.pop("tags", None) or {}

    @ready(word, *arguments, choice=choice)
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        given: Any = {**kwargs, **declared}
        if tags:
            given["tags"] = {**(kwargs.get("tags") or {}), **tags}
        return next_creator(**given)

    return creator


def checked_place(device: Any, word: str) -> Any:
    """Return a device if there is one of that name, on this machine or another."""
    try:
        if device is not None:
            torch.device(device)
    except Exception as error:  # a value of somebody's own class may raise anything
        kinds = ("cpu", "cuda", "meta", "mps", "xpu")
        raise (VariableValueError if isinstance(device, (str, int)) else VariableTypeError)(
            f"{word} got the device {shown(device)}{did_you_mean(device, kinds)}.",
            "A device is a torch.device, its name, or the number of an accelerator.",
            f"Write {word}('cpu'), say." if word == "on" else f"Write {word}(device='cpu'), say.",
        ) from error
    return device


def _trainable(value: Any, word: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    raise VariableTypeError(
        f"{word} got trainable={shown(value)}.",
        "It becomes requires_grad, which is True or False.",
        "Pass True, False, or None for the default.",
    )


def _tags(value: Any, word: str) -> dict[str, Any]:
    try:
        if value is None or isinstance(value, Mapping):
            return dict(() if value is None else value)
    except Exception:  # a mapping of somebody's own class may raise anything
        pass
    raise VariableTypeError(
        f"{word} got tags={shown(value)}.",
        "Tags are what the caller tells the creators, by name.",
        "Pass a mapping, tags={'decay': False}, say.",
    )


def _later(value: Any, word: str) -> Any:  # by the variable itself, whose dtype and shape it needs
    return value


_CHECKED: dict[str, Callable[[Any, str], Any]] = {
    "initial_value": _later,
    "trainable": _trainable,
    "validate_shape": _later,
    "caching_device": checked_place,
    "dtype": _later,
    "constraint": lambda value, word: constraints.get(value, f"{word}(...)"),
    "synchronization": lambda value, word: VariableSynchronization.of(value, asked_by=word),
    "aggregation": lambda value, word: VariableAggregation.of(value, asked_by=word),
    "shape": _later,
    "device": checked_place,
    "process_group": _later,
    "tags": _tags,
}
"""The keywords that can be declared for many, and what can be said of a value before any is."""
