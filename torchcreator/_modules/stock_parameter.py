"""A stock module's parameter as its creators meet it: registered, and not initialised yet."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torchcreator._chain.target import NO_TAGS, Asked
from torchcreator._errors import VariableValueError
from torchcreator._recorder.live_tensors import put_data
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.lazy import uninitialized
from torchcreator._spec.spec import VariableSpec, spec_from

AUTO, NONE = VariableSynchronization.AUTO, VariableAggregation.NONE


class StockTarget:
    """A parameter that a stock module has just registered and will initialise itself."""

    __slots__ = ("device", "handed", "made", "module", "name", "parameter", "spec", "valued")
    value = None  # its module gives it one later
    region = None

    def __init__(self, module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        self.module: nn.Module | None = module
        self.name = name
        self.parameter = parameter
        lazy = type(parameter) is not nn.Parameter and is_lazy(parameter)
        self.device = parameter.device
        # What creators receive, in the order of a spec: `adopt` looks whether it came back.
        self.handed = (
            name, None if lazy else parameter.shape, parameter.dtype,
            None if parameter.requires_grad else False, None, AUTO, NONE, None, None, NO_TAGS,
            not lazy,
        )  # fmt: skip
        self.made: nn.Parameter | None = None
        self.spec: VariableSpec | None = None
        self.valued = False

    def adopted(self) -> nn.Parameter:
        """Return the module's own parameter, declared to be what it is."""
        parameter = self.parameter
        name, shape, dtype, *_, known = self.handed
        trainable = parameter.requires_grad
        self.spec = spec_from(
            (name, shape, dtype, trainable, None, AUTO, NONE, None, None, {}, known)
        )
        self.made = parameter
        return parameter

    def fill(self, data: torch.Tensor | None, asked: Asked) -> nn.Parameter:
        """Return the module's own parameter, with ``data`` in it if there is some."""
        parameter = self.parameter
        own_shape = self.handed[1]
        if own_shape is None:
            return self._lazy(data, asked)
        shape = asked.shape if data is None else data.shape
        if shape is not own_shape and shape is not None and shape != own_shape:
            raise self._other_shape(shape)
        self.valued = data is not None
        if data is None and not moves(parameter, asked):
            if parameter.requires_grad is not asked.trainable:
                parameter.requires_grad_(asked.trainable)
            return parameter
        if data is None:
            data = _converted(parameter.detach(), asked)
        put_data(parameter, data)
        parameter.requires_grad_(asked.trainable)
        return parameter

    def _lazy(self, data: torch.Tensor | None, asked: Asked) -> nn.Parameter:
        if data is not None:
            raise VariableValueError(
                f"A creator set the initial_value of the lazy parameter {self}.",
                "Its shape is not known before the first forward, which then initialises it.",
                "Leave initial_value as None where shape is None.",
            )
        own = self.parameter
        if moves(own, asked):
            place, dtype = asked.device or own.device, asked.dtype or own.dtype
            return uninitialized(asked.trainable, place, dtype)
        own.requires_grad = asked.trainable
        return own

    def _other_shape(self, asked: torch.Size) -> VariableValueError:
        return VariableValueError(
            f"A creator gave {self} another shape than its module did.\n"
            f"  expected: {tuple(self.parameter.shape)}\n"
            f"  actual:   {tuple(asked)}",
            "The module's forward relies on the shape it chose.",
            "Keep shape as it comes, or return a parameter of your own.",
        )

    def __str__(self) -> str:
        return f"{type(self.module).__name__}.{self.name}"


class LoadedTarget(StockTarget):
    """A parameter that a load puts in another one's place; its value stays what was loaded."""

    __slots__ = ()

    def __init__(self, module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        # The caller's state dict may hold the parameter itself.
        own = nn.Parameter(parameter.detach(), parameter.requires_grad)
        super().__init__(module, name, own)

    def fill(self, data: torch.Tensor | None, asked: Asked) -> nn.Parameter:
        """Return what was loaded as it is asked for; on meta it would be lost."""
        device, dtype = asked.device, asked.dtype
        if device is not None and device.type == "meta":
            device = None
        if dtype is not None and not _converts(self.parameter.dtype, dtype):
            dtype = None
        asked = asked._replace(shape=None, dtype=dtype, device=device)
        return super().fill(None, asked)


def _converts(loaded: torch.dtype, asked: torch.dtype) -> bool:
    """Return whether numbers stay what they are: integers may be a quantised file's."""
    return loaded.is_floating_point and asked.is_floating_point


def moves(parameter: nn.Parameter, asked: Asked) -> bool:
    if asked.dtype is not None and asked.dtype != parameter.dtype:
        return True
    own, device = parameter.device, asked.device
    if device is None or device == own:
        return False
    # "cuda" stands for the current one, which it may be on already.
    return device.type != own.type or device.index is not None


def _converted(value: torch.Tensor, asked: Asked) -> torch.Tensor:
    if value.is_meta:  # nothing to convert; the module initialises what it finds
        return torch.empty_like(value, dtype=asked.dtype, device=asked.device)
    return value.to(device=asked.device, dtype=asked.dtype)
