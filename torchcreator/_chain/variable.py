"""`variable`: the one call that makes a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from typing_extensions import Never

from torchcreator._chain.complaints import explain, returned_none
from torchcreator._chain.default import default_creator, make, unknown_keyword
from torchcreator._chain.initial_value import in_place
from torchcreator._chain.open_scopes import innermost_link
from torchcreator._chain.scope import current_chain
from torchcreator._chain.target import current_target, reset_target, set_target
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.types import Device, InitialValue, Shape
from torchcreator.constraints._base import Constraint

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def variable(
    initial_value: InitialValue = None,
    *,
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
    """Make a parameter, as the creators of the open scopes decide.

    Every open `creator_scope` is asked, innermost first, with all keywords and the values given
    here; without one, or behind the last one, `default_creator` makes the parameter.

    Args:
        initial_value: A tensor, array, number or nested list, which is copied; or a callable
            without arguments, called once, after every creator ran. With ``shape`` it may be an
            in-place initialiser in the manner of `torch.nn.init`. The tensor that a callable
            returns becomes the parameter's own, so return a fresh one.
        trainable: Becomes ``requires_grad``. None means True, but False for ``ON_READ`` and for
            integer and bool dtypes.
        validate_shape: False allows the shape to be unknown: with neither value nor shape the
            result is a `torch.nn.UninitializedParameter`.
        caching_device: Where `read_value` keeps a copy.
        name: Made unique within the outermost open scope ("w", "w_1", …); default "Variable".
        dtype: The dtype; a tensor of another one is an error, Python and NumPy values are
            converted. Default: the value's own, `torch.get_default_dtype` for Python floats.
        constraint: A projection applied after each optimizer step, or a name such as "non_neg".
        synchronization: When the values of several ranks are brought together.
        aggregation: How one value is made of the values of several ranks.
        shape: The shape; it must equal the value's, nothing is broadcast.
        device: The device. Default: the value's own, else torch's default device.
        process_group: The ranks over which it is aggregated; None means the default group.
        tags: Anything the creators should know; kept in the spec.
        module: The module that will own it; creators receive it, nothing else depends on it.
        **unknown: Refused, with the nearest keyword.

    Returns:
        A plain `torch.nn.Parameter`, or what a creator returned in its place.

    Raises:
        VariableTypeError: A keyword is unknown or has a value of the wrong type.
        VariableValueError: A keyword has a wrong value; no initial value was found.
        CreatorResultError: A creator returned None.
        CreatorRecursionError: A creator called `variable` for ever.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> tc.variable([1.0, 2.0])
        Parameter containing:
        tensor([1., 2.], requires_grad=True)
        >>> tc.variable(torch.nn.init.ones_, shape=(2, 3), constraint="max_norm").shape
        torch.Size([2, 3])
    """
    if unknown:
        raise unknown_keyword(name, unknown)
    if shape is not None and callable(initial_value):
        initial_value = in_place(initial_value, name, shape, dtype, device)
    link = innermost_link()
    if link is None:
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
    # A creator's own variable is not the parameter that waits for the creator's answer.
    aside = None if current_target() is None else set_target(None)
    creator, onward = link.step
    try:
        made: nn.Parameter | None = creator(
            onward,
            initial_value=initial_value,
            trainable=trainable,
            validate_shape=validate_shape,
            caching_device=caching_device,
            name=name,
            dtype=dtype,
            constraint=constraint,
            synchronization=synchronization,
            aggregation=aggregation,
            shape=shape,
            device=device,
            process_group=process_group,
            tags=tags,
            module=module,
        )
    except (RecursionError, TypeError) as error:
        explain(error, variable, current_chain(default_creator), name)
    finally:
        if aside is not None:
            reset_target(aside)
    if made is None:
        raise returned_none(creator, name)
    return made
