"""A recorded parameter as its creators meet it: waiting, with its true value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torchcreator._torch.tensors import is_plain_meta, storage_key, version
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._errors import BuildError, CreatorResultError, shown
from torchcreator._recorder.recording import Recording
from torchcreator._spec.spec import Declaration, VariableSpec
from torchcreator._chain.target import Form, Target
from torchcreator._chain.target import target as _target
from torchcreator._spec.types import NextCreator, VariableKwargs
from torchcreator._chain.initial_value import wanted


class TrueValue:
    """The value that the constructor gave a parameter, made when it is called.

    This is the ``initial_value`` that creators see: ``lambda: 2 * initial_value()`` works.
    """

    def __init__(self, recording: Recording, parameter: nn.Parameter, name: str) -> None:
        self._recording = recording
        self._parameter = parameter
        self._name = name
        self._given: tuple[torch.Tensor, int] | None = None  # held, so its address stays its own

    def __call__(self) -> torch.Tensor:
        asked = wanted()
        parameter = self._parameter
        if asked is not None and asked.device is not None and asked.device.type == "meta":
            # Nobody will look at the value: do not make it.
            dtype = asked.dtype or parameter.dtype
            return torch.empty_strided(
                parameter.size(), parameter.stride(), dtype=dtype, device=asked.device
            )
        value = self._value()
        if asked is not None and asked.dtype is not None:
            value = value.to(asked.dtype)  # a module's own value is converted, unlike a caller's
        self._given = value, version(value)
        return value

    def is_own(self, data: torch.Tensor) -> bool:
        """Return whether ``data`` is what this gave, as it gave it."""
        if self._given is None or data.dtype != self._parameter.dtype:
            return False
        given, seen = self._given
        same = storage_key(given) == storage_key(data)
        return same and version(data) == seen and data.shape == self._parameter.shape

    def _value(self) -> torch.Tensor:
        parameter = self._parameter
        if not is_plain_meta(parameter):
            return parameter.detach().clone()
        if self._recording.tape.find(parameter) is None:
            raise BuildError(
                f"Parameter {self._name!r} was left on the meta device by its constructor.",
                "It asked for device='meta', so there is no value to give.",
                "Set initial_value in a creator, or construct it on a real device.",
            )
        return self._recording.value(self._recording.tape.ref(parameter))

    def __repr__(self) -> str:
        return f"<value of {self._name!r}>"


class RecordedTarget:
    """A parameter on meta that waits for its creators' decision."""

    form: Form | None = None  # its creators are always heard: what they answer goes elsewhere

    def __init__(
        self,
        module: nn.Module,
        name: str,
        parameter: nn.Parameter,
        recording: Recording,
        put: Callable[[nn.Parameter, TrueValue, torch.Tensor, bool], None],
    ) -> None:
        self.module: nn.Module | None = module
        self.name = name
        self.parameter = parameter
        self.made: nn.Parameter | None = None
        self.declaration: Declaration | None = None
        self.value = TrueValue(recording, parameter, name)
        self._put = put

    def fill(
        self,
        data: torch.Tensor | None,
        *,
        shape: torch.Size | None,
        dtype: torch.dtype | None,
        device: torch.device | None,
        trainable: bool,
    ) -> nn.Parameter:
        """Return the constructor's own parameter object with ``data`` in it."""
        lazy: bool = is_lazy(self.parameter)
        if lazy:
            self.parameter.requires_grad = trainable
            return self.parameter
        asked = shape if data is None else data.shape
        if asked is not None and asked != self.parameter.shape:
            raise other_shape(self.name, self.parameter.shape, asked)
        if data is None:
            data = self.value()
            data = data.to(device=device, dtype=dtype)
        self._put(self.parameter, self.value, data, trainable)
        return self.parameter


def ask(
    chain: NextCreator,
    target: Target,
    value: TrueValue,
    *,
    device: torch.device,
    names: Sequence[str],
    spec: VariableSpec | None,
) -> nn.Parameter:
    """Call the creators for one recorded parameter, and check what they return.

    Args:
        chain: The creators.
        target: The parameter that waits for their decision.
        value: What its constructor gave it.
        device: Where its constructor asked for it.
        names: All its full names.
        spec: What its constructor declared, if it did.
    """
    token = _target.set(target)
    try:
        made: Any = chain(**_keywords(target, value, device, names, spec))
    finally:
        _target.reset(token)
    if not isinstance(made, nn.Parameter):
        raise CreatorResultError(
            f"A creator returned {shown(made)} for {names[0]!r}.",
            "A module holds torch.nn.Parameter objects.",
            "Return next_creator(**kwargs), or torch.nn.Parameter(...).",
        )
    return made


def _keywords(
    target: Target,
    value: TrueValue,
    device: torch.device,
    names: Sequence[str],
    spec: VariableSpec | None,
) -> VariableKwargs:
    parameter = target.parameter
    lazy = is_lazy(parameter)
    keywords: VariableKwargs = {
        "initial_value": None if lazy else value,
        "trainable": None if parameter.requires_grad else False,
        "validate_shape": not lazy,
        "caching_device": None,
        "name": target.name,
        "dtype": parameter.dtype,
        "constraint": None,
        "synchronization": VariableSynchronization.AUTO,
        "aggregation": VariableAggregation.NONE,
        "shape": None if lazy else parameter.shape,
        "device": device,
        "process_group": None,
        "tags": None,
        "module": target.module,
    }
    if spec is not None:  # a variable() of the constructor: what it declared holds
        keywords["trainable"] = parameter.requires_grad
        keywords["validate_shape"] = spec.validate_shape
        keywords["caching_device"] = spec.caching_device
        keywords["constraint"] = spec.constraint
        keywords["synchronization"] = spec.synchronization
        keywords["aggregation"] = spec.aggregation
        keywords["process_group"] = spec.group()
        keywords["tags"] = spec.tags or None
    if len(names) > 1:
        keywords["tags"] = {**(keywords["tags"] or {}), "names": tuple(names)}
    return keywords


def other_shape(name: str, expected: torch.Size, actual: torch.Size) -> CreatorResultError:
    """Return the error for a creator that gave a parameter another shape."""
    return CreatorResultError(
        f"A creator gave {name!r} another shape than its constructor did.\n"
        f"  expected: {tuple(expected)}\n"
        f"  actual:   {tuple(actual)}",
        "The module's forward relies on the shape it chose.",
        "Keep shape as it comes, or return a parameter of your own.",
    )
