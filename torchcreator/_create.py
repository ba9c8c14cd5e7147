"""Send the parameters of a recorded model through the creators, under their full names."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from types import CellType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torchcreator import _private
from torchcreator._bar import bar
from torchcreator._enums import VariableAggregation, VariableSynchronization
from torchcreator._errors import BuildError, CreatorResultError, shown
from torchcreator._objects import replace
from torchcreator._recording import Objects, Recording, share
from torchcreator._spec import Declaration, VariableSpec
from torchcreator._table import OWN, declare, specs_of
from torchcreator._tape import Ref
from torchcreator._target import Target
from torchcreator._target import target as _target
from torchcreator._types import NextCreator, VariableKwargs
from torchcreator._values import wanted

Place = tuple[nn.Module, str]


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
        self._given = value, value._version
        return value

    def is_own(self, data: torch.Tensor) -> bool:
        """Return whether ``data`` is what this gave, as it gave it."""
        if self._given is None or data.dtype != self._parameter.dtype:
            return False
        given, version = self._given
        same = _private.storage_key(given) == _private.storage_key(data)
        return same and data._version == version and data.shape == self._parameter.shape

    def _value(self) -> torch.Tensor:
        parameter = self._parameter
        if not _private.is_plain_meta(parameter):
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


class _RecordedTarget:
    """A parameter on meta that waits for its creators' decision."""

    def __init__(
        self, places: list[Place], name: str, parameter: nn.Parameter, creation: _Creation
    ) -> None:
        self.module: nn.Module | None = places[0][0]
        self.name = name
        self.parameter = parameter
        self.made: nn.Parameter | None = None
        self.declaration: Declaration | None = None
        self.value = TrueValue(creation.recording, parameter, name)
        self._creation = creation

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
        self._creation.put(self.parameter, self.value, data, trainable)
        return self.parameter


class _Creation:
    """One pass over the parameters of a model."""

    def __init__(self, model: nn.Module, recording: Recording, objects: Objects) -> None:
        self.model = model
        self.recording = recording
        self._objects = objects
        self._memory: dict[int, torch.UntypedStorage] = {}  # of storages that several share

    def run(self, chain: NextCreator) -> None:
        """Call the creators once for each parameter, in the order of ``named_parameters``."""
        names: dict[int, list[str]] = {}
        places: dict[int, list[Place]] = {}
        parameters: dict[int, nn.Parameter] = {}
        for prefix, module in self.model.named_modules():
            for local, parameter in module._parameters.items():
                if parameter is not None:
                    parameters.setdefault(id(parameter), parameter)
                    names.setdefault(id(parameter), []).append(f"{prefix}.{local}".lstrip("."))
                    places.setdefault(id(parameter), []).append((module, local))
        specs = specs_of(list(parameters.values()))
        replaced: list[tuple[nn.Parameter, nn.Parameter]] = []
        with bar("asking the creators", len(parameters)) as advance:
            for (key, parameter), spec in zip(parameters.items(), specs, strict=True):
                made = self._create(chain, parameter, names[key], places[key], spec)
                if made is not parameter:
                    replaced.append((parameter, made))
                advance()
        parameters.clear()
        for refused, _ in replaced:
            self._forget(refused)
        _take_over(replaced)

    def put(
        self, parameter: nn.Parameter, value: TrueValue, data: torch.Tensor, trainable: bool
    ) -> None:
        """Put ``data`` into a parameter, and into the tensor objects that share its memory."""
        storage = self.recording.storage_of(parameter)
        own = value.is_own(data)
        if storage is None:
            if not own:
                _put_real(parameter, data)
            parameter.requires_grad_(trainable)
            return
        ref = self.recording.tape.ref(parameter)
        with _private.no_function_modes(), torch.inference_mode(parameter.is_inference()):
            if own:  # parameters of one storage go on sharing it
                memory = self._memory.setdefault(storage, data.untyped_storage())
                data = self.recording.view(ref, memory)
            replace(parameter, data.view_as(data), requires_grad=trainable)
        alike = own or (self.recording.tape.covers(ref) and _laid_out(data, ref))
        self._share(storage, parameter, data, alike=alike)

    def _share(
        self, storage: int, parameter: nn.Parameter, data: torch.Tensor, *, alike: bool
    ) -> None:
        """Let what else looks at a storage look at ``data``'s, if it is laid out alike.

        But for parameters: they have creators of their own to pass.
        """
        waiting = [(t, r) for t, r in self._objects.pop(storage) if t is not parameter]
        if alike:
            loose = [(t, r) for t, r in waiting if not isinstance(t, nn.Parameter)]
            with torch.no_grad():
                share(self.recording, loose, data.untyped_storage())
            waiting = [(t, r) for t, r in waiting if isinstance(t, nn.Parameter)]
        if waiting:
            self._objects[storage] = waiting
        else:
            self._memory.pop(storage, None)

    def _forget(self, refused: nn.Parameter) -> None:
        """Let nothing be replayed for a parameter that a creator answered by one of its own."""
        storage = self.recording.storage_of(refused)
        if storage is None:
            return
        others = [(t, r) for t, r in self._objects.pop(storage, []) if t is not refused]
        if others:
            self._objects[storage] = others

    def _create(
        self,
        chain: NextCreator,
        parameter: nn.Parameter,
        names: list[str],
        places: list[Place],
        spec: VariableSpec | None,
    ) -> nn.Parameter:
        target = _RecordedTarget(places, names[0], parameter, self)
        device = self.recording.device_of(parameter)
        made = ask(chain, target, target.value, device=device, names=names, spec=spec)
        declaration: Declaration | None = made.__dict__.get(OWN)
        if made is target.made and target.declaration is not None:
            declaration = target.declaration
            if OWN in made.__dict__:
                made.__dict__[OWN] = declaration
        for module, local in places:
            module._parameters[local] = made
            if declaration is not None:
                declare(module, local, declaration)
        return made


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


def create_parameters(
    model: nn.Module, recording: Recording, objects: Objects, chain: NextCreator
) -> None:
    """Call the creators once for each parameter of a recorded model.

    Args:
        model: The model, on meta.
        recording: Where its values come from.
        objects: Every recorded tensor object, by storage; those that were filled are taken out.
        chain: The creators.
    """
    _Creation(model, recording, objects).run(chain)


def _laid_out(data: torch.Tensor, ref: Ref) -> bool:
    """Return whether ``data`` lies in its storage as ``ref`` lies in its own."""
    return (data.dtype, data.size(), data.stride(), data.storage_offset()) == (
        ref.dtype,
        ref.size,
        ref.stride,
        ref.offset,
    )


def _put_real(parameter: nn.Parameter, data: torch.Tensor) -> None:
    parameter.requires_grad_(False)  # an integer dtype is refused while it has a gradient
    if _private.can_share_data(parameter, data):
        parameter.data = data
    else:
        replace(parameter, data.view_as(data), requires_grad=False)


def _take_over(replaced: list[tuple[nn.Parameter, nn.Parameter]]) -> None:
    """Put the creators' own parameters where else the constructor kept the old ones.

    An optimizer's groups, a recurrent module's list of flat weights, a list of the user's.
    """
    new_of = {id(old): new for old, new in replaced}
    # Held by `replaced`'s tuple, the loop variable and the argument; more means someone else.
    held = [old for old, _ in replaced if sys.getrefcount(old) > 3]
    if not held:
        return
    for holder in gc.get_referrers(*held):
        if isinstance(holder, CellType):
            holder.cell_contents = new_of.get(id(holder.cell_contents), holder.cell_contents)
        elif type(holder) is list and holder is not held:
            holder[:] = [new_of.get(id(value), value) for value in holder]
        elif isinstance(holder, dict) and holder is not new_of:
            for key, value in list(holder.items()):
                if id(value) in new_of:
                    holder[key] = new_of[id(value)]


def other_shape(name: str, expected: torch.Size, actual: torch.Size) -> CreatorResultError:
    """Return the error for a creator that gave a parameter another shape."""
    return CreatorResultError(
        f"A creator gave {name!r} another shape than its constructor did.\n"
        f"  expected: {tuple(expected)}\n"
        f"  actual:   {tuple(actual)}",
        "The module's forward relies on the shape it chose.",
        "Keep shape as it comes, or return a parameter of your own.",
    )
