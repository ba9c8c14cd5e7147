"""A recorded parameter as its creators meet it: waiting, with its true value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torchcreator._chain.complaints import explain
from torchcreator._chain.initial_value import wanted
from torchcreator._chain.target import Asked, Target, reset_target, set_target
from torchcreator._errors import BuildError, CreatorResultError, shown
from torchcreator._recorder.boxes import Region, region_in
from torchcreator._recorder.recording import Recording
from torchcreator._recorder.tape import Ref
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.lazy import uninitialized
from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.types import NextCreator, VariableKwargs
from torchcreator._torch.tensors import is_plain_meta, wraps_others


class Put(Protocol):
    """Puts a value into a recorded parameter."""

    def __call__(
        self, parameter: nn.Parameter, data: torch.Tensor, *, own: bool, trainable: bool
    ) -> None:
        """Put ``data`` there; ``own`` if it is the value that the constructor gave it."""
        ...


class TrueValue:
    """The value that the constructor gave a parameter, made when it is called or sliced.

    This is the ``initial_value`` that creators see: ``lambda: 2 * initial_value()`` works, and so
    does ``initial_value[2:5]``, which makes these rows alone where it can.

    Args:
        recording: Where it comes from.
        parameter: The parameter.
        name: Its full name.
        ref: What the constructor made, where the parameter does not tell: one that is sharded.
    """

    def __init__(
        self, recording: Recording, parameter: nn.Parameter, name: str, ref: Ref | None = None
    ) -> None:
        self._recording = recording
        self._parameter = parameter
        self._name = name
        self._ref = ref

    @property
    def shape(self) -> torch.Size:
        """The shape of the whole value."""
        return self._parameter.shape

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameter."""
        return self._parameter.dtype

    def __call__(self) -> torch.Tensor:
        asked = wanted()  # by the end of the chain, if a creator put a callable around this one
        return self.as_asked(*((None, None) if asked is None else (asked.dtype, asked.device)))

    def __getitem__(self, index: Any) -> torch.Tensor:
        region = region_in(index, self.shape)
        if region is None or not self._is_recorded():
            return self()[index]
        asked = wanted()
        value = self.part(region)
        return value if asked is None else value.to(device=asked.device, dtype=asked.dtype)

    def part(self, region: Region) -> torch.Tensor:
        """Return a part of the value, in memory of its own."""
        ref = self._ref or self._recording.tape.ref(self._parameter)
        return self._recording.part(ref, region).to(self.dtype)

    def _is_recorded(self) -> bool:
        parameter = self._parameter
        return self._ref is not None or self._recording.storage_of(parameter) is not None

    def as_asked(self, dtype: torch.dtype | None, device: torch.device | None) -> torch.Tensor:
        """Return the value in a dtype, on a device; a module's own is converted, as `.to` does."""
        own = self._parameter
        if device is not None and device.type == "meta":  # nobody will look: it is not made
            kind = dtype or own.dtype
            return torch.empty_strided(own.size(), own.stride(), dtype=kind, device=device)
        return self._value().to(device=device, dtype=dtype)

    def _value(self) -> torch.Tensor:
        parameter = self._parameter
        if self._ref is not None:
            return self._recording.value(self._ref).to(parameter.dtype)
        if has_no_value_yet(parameter):
            raise BuildError(
                f"The value of {self._name!r} is asked for while its model is built.",
                f"It is a {type(parameter).__name__}, made of other tensors, which have no values "
                "yet.",
                "Leave initial_value as it comes, or set another one; convert it after build().",
            )
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

    handed = device = None  # its creators are always heard: what they answer goes elsewhere
    region = None

    def __init__(
        self,
        module: nn.Module,
        name: str,
        parameter: nn.Parameter,
        recording: Recording,
        put: Put,
    ) -> None:
        self.module: nn.Module | None = module
        self.name = name
        self.parameter = parameter
        self.made: nn.Parameter | None = None
        self.spec: VariableSpec | None = None
        self.value = TrueValue(recording, parameter, name)
        self._put = put
        self._recording = recording

    def fill(self, data: torch.Tensor | None, asked: Asked) -> nn.Parameter:
        """Return the constructor's own parameter object with ``data`` in it."""
        parameter = self.parameter
        lazy: bool = is_lazy(parameter)
        if lazy:
            return self._lazy(data, asked)
        shape = asked.shape if data is None else data.shape
        if shape is not None and shape != parameter.shape:
            raise other_shape(self.name, parameter.shape, shape)
        if data is None and has_no_value_yet(parameter):
            if not _as_it_is(parameter, asked):
                raise _made_of_others(self.name, parameter, asked)
            parameter.requires_grad_(asked.trainable)
            return parameter
        own = data is None
        if data is None:
            data = self.value.as_asked(asked.dtype, asked.device)
            own = data.dtype == parameter.dtype
        self._put(parameter, data, own=own, trainable=asked.trainable)
        return parameter

    def _lazy(self, data: torch.Tensor | None, asked: Asked) -> nn.Parameter:
        """Return a parameter without a shape yet; or with the shape that its value has."""
        own = self._recording.device_of(self.parameter)
        if data is not None:
            return nn.Parameter(data.detach(), asked.trainable)
        if asked.dtype not in (None, self.parameter.dtype) or asked.device not in (None, own):
            dtype = asked.dtype or self.parameter.dtype
            return uninitialized(asked.trainable, asked.device or own, dtype)
        self.parameter.requires_grad = asked.trainable
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
    token = set_target(target)
    try:
        made: Any = chain(**_keywords(target, value, device, names, spec))
    except TypeError as error:
        explain(error, ask, chain, names[0])
    finally:
        reset_target(token)
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
        # The device of a wrapper is that of what it wraps, which is recorded.
        "device": None if target.region is None and _is_wrapper(parameter) else device,
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


def has_no_value_yet(parameter: nn.Parameter) -> bool:
    """Return whether a parameter is made of tensors that are recorded, and filled, themselves."""
    return not is_lazy(parameter) and wraps_others(parameter)


def _is_wrapper(parameter: nn.Parameter) -> bool:
    return has_no_value_yet(parameter) and parameter.is_meta


def _as_it_is(parameter: nn.Parameter, asked: Asked) -> bool:
    return asked.dtype in (None, parameter.dtype) and asked.device in (None, parameter.device)


def _made_of_others(name: str, parameter: nn.Parameter, asked: Asked) -> BuildError:
    return BuildError(
        f"A creator asked for {name!r} in another form than its constructor made.\n"
        f"  expected: {parameter.dtype} on {parameter.device}\n"
        f"  actual:   {asked.dtype} on {asked.device}",
        f"It is a {type(parameter).__name__}, made of other tensors, which have no values yet.",
        "Convert the model after build(); or choose the variables: cast(..., name='*.bias'), say.",
    )


def other_shape(name: str, expected: torch.Size, actual: torch.Size) -> CreatorResultError:
    """Return the error for a creator that gave a parameter another shape."""
    return CreatorResultError(
        f"A creator gave {name!r} another shape than its constructor did.\n"
        f"  expected: {tuple(expected)}\n"
        f"  actual:   {tuple(actual)}",
        "The module's forward relies on the shape it chose.",
        "Keep shape as it comes, or return a parameter of your own.",
    )
