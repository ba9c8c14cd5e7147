"""The default creator: the end of every chain, which makes the parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.distributed import ProcessGroup
from torch.nn.parameter import is_lazy
from typing_extensions import Never

from torchcreator._chain.checks import (
    check_choice,
    check_group,
    checked_device,
    checked_form,
    checked_trainable,
    label_of,
    own_tags,
)
from torchcreator._chain.initial_value import Wanted, tensor_of
from torchcreator._chain.open_scopes import unique_name
from torchcreator._chain.partial_value import part_of
from torchcreator._chain.target import NO_TAGS, Asked, Target, current_target, waiting_target
from torchcreator._errors import VariableTypeError, VariableValueError, did_you_mean, labelled
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.lazy import uninitialized
from torchcreator._spec.spec import announce_constraint, announce_policy, spec_from
from torchcreator._spec.table import attach
from torchcreator._spec.types import Device, InitialValue, Shape, VariableKwargs
from torchcreator.constraints import check
from torchcreator.constraints import get as get_constraint
from torchcreator.constraints._base import Constraint

_AUTO, _ON_READ = VariableSynchronization.AUTO, VariableSynchronization.ON_READ
_NONE, _MEAN = VariableAggregation.NONE, VariableAggregation.MEAN


def default_creator(
    *,
    initial_value: InitialValue = None,
    trainable: bool | None = None,
    validate_shape: bool = True,
    caching_device: Device | None = None,
    name: str | None = None,
    dtype: torch.dtype | None = None,
    constraint: Constraint | str | None = None,
    synchronization: VariableSynchronization | str | None = VariableSynchronization.AUTO,
    aggregation: VariableAggregation | str | None = VariableAggregation.NONE,
    shape: Shape | None = None,
    device: Device | None = None,
    process_group: ProcessGroup | None = None,
    tags: Mapping[str, Any] | None = None,
    module: nn.Module | None = None,
    **unknown: Never,
) -> nn.Parameter:
    """Make the parameter that the keywords describe; the end of every creator chain.

    Keywords that a creator dropped take the defaults of `torchcreator.variable`.

    The arguments are those of `torchcreator.variable`.

    Returns:
        A new `torch.nn.Parameter`, or the one that a stock module waits to have initialised.

    Raises:
        VariableTypeError: A keyword is unknown or has a value of the wrong type.
        VariableValueError: A keyword has a wrong value; ``initial_value`` is missing.

    Example:
        >>> import torchcreator as tc
        >>> tc.default_creator(initial_value=[1.0, 2.0], trainable=False).requires_grad
        False
    """
    if unknown:
        raise unknown_keyword(name, unknown)
    return make(
        initial_value,
        trainable,
        validate_shape,
        caching_device,
        name,
        dtype,
        constraint,
        synchronization,
        aggregation,
        shape,
        device,
        process_group,
        tags,
        module,
    )


def adopt(
    *,
    initial_value: Any = None,
    trainable: Any = None,
    validate_shape: Any = True,
    caching_device: Any = None,
    name: Any = None,
    dtype: Any = None,
    constraint: Any = None,
    synchronization: Any = VariableSynchronization.AUTO,
    aggregation: Any = VariableAggregation.NONE,
    shape: Any = None,
    device: Any = None,
    process_group: Any = None,
    tags: Any = None,
    module: Any = None,
    **unknown: Never,
) -> nn.Parameter:
    """Take a module's parameter as it is where no creator wants anything of it.

    The end of the chain for stock modules, and for finished ones: nearly always everything comes
    back as the innermost creator was handed it, and nothing has to be checked.
    """
    if unknown:
        raise unknown_keyword(name, unknown)
    waiting: Any = current_target()  # None where a creator kept the chain and calls it later
    if waiting is not None and waiting.made is None and initial_value is waiting.value:
        asked = (
            name, shape, dtype, trainable, constraint, synchronization, aggregation,
            caching_device, process_group, NO_TAGS if tags is None else tags, validate_shape,
        )  # fmt: skip
        try:  # tuples look at identity first
            there = device is waiting.device or device == waiting.device
            same = there and asked == waiting.handed
        except Exception:  # a creator put in what cannot be compared: an array, say
            same = False
        if same and module is waiting.module:
            adopted: nn.Parameter = waiting.adopted()
            return adopted
    return make(
        initial_value, trainable, validate_shape, caching_device, name, dtype, constraint,
        synchronization, aggregation, shape, device, process_group, tags, module,
    )  # fmt: skip


def unknown_keyword(name: str | None, unknown: Mapping[str, Any]) -> VariableTypeError:
    """Return the error for a keyword that no variable has."""
    word = next(iter(unknown))
    known = VariableKwargs.__annotations__
    return VariableTypeError(
        f"Variable {labelled(name)!r} got an unexpected keyword {word!r}"
        f"{did_you_mean(word, known)}.",
        f"A variable takes {', '.join(known)}.",
        "Correct the keyword, or pass the value to the creators in tags={...}.",
    )


def make(
    initial_value: Any,
    trainable: bool | None,
    validate_shape: bool,
    caching_device: Any,
    name: str | None,
    dtype: Any,
    constraint: Constraint | str | None,
    synchronization: Any,
    aggregation: Any,
    shape: Any,
    device: Any,
    process_group: Any,
    tags: Mapping[str, Any] | None,
    module: nn.Module | None,
) -> nn.Parameter:
    """Make the parameter; positional, because packing fourteen keywords costs as much as it does.

    Everything that can be wrong is checked before anything is made, filled or named.
    """
    # Every call that this is split into costs a few per cent of the whole, so what nearly no
    # variable sets is checked together, and only when it is set.
    label = label_of(name, module)
    if not (shape is None and dtype is None and device is None):
        shape, dtype, device = checked_form(shape, dtype, device, label)
    if not (
        validate_shape is True
        and constraint is None
        and caching_device is None
        and process_group is None
        and tags is None
        and synchronization.__class__ is VariableSynchronization
        and aggregation.__class__ is VariableAggregation
    ):
        check_choice(validate_shape, label)
        synchronization = VariableSynchronization.of(synchronization, label)
        aggregation = VariableAggregation.of(aggregation, label)
        constraint = get_constraint(constraint, label)
        caching_device = checked_device(caching_device, label, "caching_device")
        check_group(process_group, label)
        tags = own_tags(tags, label)
    waiting = current_target() and waiting_target()
    data = part = None
    if initial_value is not None and (waiting is None or initial_value is not waiting.value):
        sharded = None if waiting is None or waiting.region is None else waiting
        data = tensor_of(initial_value, label, shape, dtype, device) if sharded is None else None
        part = (
            None
            if sharded is None
            else part_of(initial_value, sharded, Wanted(label, shape, dtype, device))
        )
    elif waiting is None and (validate_shape or shape is not None):
        raise _no_value(label)
    kind = dtype or (data.dtype if data is not None else _unset_dtype(waiting))
    trainable = (
        synchronization is not _ON_READ and (kind.is_floating_point or kind.is_complex)
        if trainable is None
        else checked_trainable(trainable, kind, label)
    )
    if not (
        constraint is None
        and synchronization is _AUTO
        and aggregation is _NONE
        and process_group is None
    ):
        _check_policies(constraint, aggregation, data, waiting, kind, label)
    if waiting is None:
        parameter = (
            uninitialized(trainable, device, kind)
            if data is None
            else nn.Parameter(data, trainable)
        )
    else:
        own = part if data is None else data
        parameter = waiting.fill(own, Asked(shape, dtype, device, trainable))
    fields = (
        unique_name(name or "Variable") if module is None else name or "Variable",
        _unset_shape(parameter, shape) if data is None else data.shape,
        kind,
        trainable,
        constraint,
        synchronization,
        aggregation,
        caching_device,
        process_group,
        {} if tags is None else tags,
        validate_shape,
    )
    spec = spec_from(fields)
    if waiting is None:
        attach(parameter, spec)
    else:
        waiting.made, waiting.spec = parameter, spec
    return parameter


def _unset_dtype(waiting: Target | None) -> torch.dtype:
    """Return the dtype of a variable that has no value yet, where none was asked for."""
    return torch.get_default_dtype() if waiting is None else waiting.parameter.dtype


def _unset_shape(parameter: nn.Parameter, asked: torch.Size | None) -> torch.Size | None:
    """Return the shape of a variable that has no value yet; None if it is lazy."""
    if asked is not None and type(parameter) is nn.Parameter:
        return asked  # nearly always, and cheaper than asking the parameter
    return None if is_lazy(parameter) else parameter.shape


def _check_policies(
    constraint: Constraint | None,
    aggregation: VariableAggregation,
    data: torch.Tensor | None,
    waiting: Target | None,
    dtype: torch.dtype,
    label: str,
) -> None:
    """Refuse what is not defined for this shape or dtype; announce what is."""
    announce_policy()
    if constraint is not None:
        known = data if data is not None or waiting is None else waiting.parameter
        if known is not None and not is_lazy(known):  # of the others, the first step will tell
            check(constraint, torch.empty(known.shape, dtype=dtype, device="meta"), label)
        announce_constraint()
    if aggregation is _MEAN and not dtype.is_floating_point:
        raise VariableValueError(
            f"Variable {label!r} has aggregation MEAN and dtype {dtype}.",
            "A mean of several ranks is not exact in a dtype that is not floating.",
            "Use aggregation='sum' or 'only_first_replica', or a floating dtype.",
        )


def _no_value(label: str) -> VariableValueError:
    return VariableValueError(
        f"Variable {label!r} has no initial_value.",
        "Neither its caller nor a creator gave one, and no module waits to initialise it: that "
        "holds once for each parameter of a stock module.",
        "Pass a tensor, a number, a callable, or shape= with an initialiser such as "
        "torch.nn.init.zeros_; or validate_shape=False without shape= to leave it uninitialised.",
    )
