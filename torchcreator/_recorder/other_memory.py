"""Tensors that are given the memory of others, where one of the two is recorded and one is real."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from torchcreator._recorder.dispatch_mode import Recorder
from torchcreator._recorder.live_tensors import replace
from torchcreator._recorder.tape_writer import Log
from torchcreator._torch.dispatch import no_dispatch_modes, no_function_modes

Function = Callable[..., Any]


def set_data(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> None:
    """Do ``tensor.data = value``, where one of them may be recorded and the other real."""
    tensor, value = args
    with no_function_modes():
        if isinstance(value, torch.Tensor) and value.is_meta is not tensor.is_meta:
            with no_dispatch_modes():
                value = value.detach()
            _look_at(recorder.log, tensor, value)
        else:
            func(tensor, value)


def _look_at(log: Log, tensor: torch.Tensor, value: torch.Tensor) -> None:
    """Let a tensor object look at the memory that ``value`` looks at: it becomes real, or recorded.

    Args:
        log: What is known about recorded tensors.
        tensor: The object, which keeps its class, attributes and hooks.
        value: A tensor of the other kind that nobody else refers to.
    """
    gradient = tensor.grad if tensor.is_leaf else None
    if gradient is not None:
        gradient = log.constant(gradient) if value.is_meta else log.real(gradient)
    tensor.grad = None
    replace(tensor, value)
    if gradient is not None:
        tensor.grad = gradient
