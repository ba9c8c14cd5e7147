"""Parameters whose shape is not known yet, and how their copies keep what they were declared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.table import OWN, attach


def uninitialized(
    trainable: bool, device: torch.device | None, dtype: torch.dtype | None
) -> nn.Parameter:
    """Return a parameter whose shape is not known yet."""
    kind: Any = nn.UninitializedParameter  # torch's stub knows neither its arguments nor its base
    parameter: nn.Parameter = kind(trainable, device, dtype)
    parameter.__dict__["__reduce_ex__"] = _reduction(parameter)
    return parameter


def copy_into(tensor: Any, value: torch.Tensor) -> None:
    """Copy a value into a tensor, which takes its shape where it has none yet."""
    if is_lazy(tensor):
        tensor.materialize(value.shape)
    with torch.no_grad():
        tensor.copy_(value)


def _reduction(parameter: Any) -> Callable[[Any], Any]:
    """Return the ``__reduce_ex__`` of one parameter, for copy and pickle.

    The one of its class drops device, dtype and attributes, and with those the declaration.
    """

    def reduce(protocol: Any) -> Any:
        declaration: VariableSpec | None = parameter.__dict__.get(OWN)
        if declaration is None or not is_lazy(parameter):
            # A module declares it, or it has its shape by now: it is reduced as torch does.
            del parameter.__dict__["__reduce_ex__"]
            return parameter.__reduce_ex__(protocol)
        state = parameter.requires_grad, parameter.device, parameter.dtype, declaration
        return _restore_uninitialized, state

    return reduce


def _restore_uninitialized(
    trainable: bool, device: torch.device, dtype: torch.dtype, declaration: VariableSpec
) -> nn.Parameter:
    parameter = uninitialized(trainable, device, dtype)
    attach(parameter, declaration)
    return parameter


torch.serialization.add_safe_globals([_restore_uninitialized])
