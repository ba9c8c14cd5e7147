"""A sharded parameter as its creators meet it: whole to look at, this rank's part to be made."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn

from torchcreator._build.progress import bar
from torchcreator._build.recorded_parameter import TrueValue, other_shape
from torchcreator._chain.target import Asked
from torchcreator._errors import CreatorResultError
from torchcreator._recorder.boxes import Region
from torchcreator._recorder.recording import Recording
from torchcreator._recorder.tape import Ref
from torchcreator._spec.spec import VariableSpec


class Shard(NamedTuple):
    """A sharded tensor of a deferred model.

    Attributes:
        name: Its full name.
        tensor: The DTensor.
        ref: What its constructor made, which it is a part of.
    """

    name: str
    tensor: torch.Tensor
    ref: Ref


class Shards:
    """The sharded tensors of a deferred model, each of which takes this rank's part of its value.

    Args:
        recording: Where values come from.
        found: The tensors; one that has several names, under the first of them.
        device: Where the parts are to be; None leaves each where its constructor asked for it.
        dtensors: The module that knows DTensors, which takes a while to import.
    """

    def __init__(
        self,
        recording: Recording,
        found: Iterable[Shard],
        device: torch.device | None,
        dtensors: ModuleType,
    ) -> None:
        self._recording = recording
        self._device = device
        self._dtensors = dtensors
        self._waiting = {id(shard.tensor): shard for shard in found}
        self._put: list[tuple[Shard, torch.Tensor, bool]] = []

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._waiting

    def target(self, module: nn.Module, name: str, parameter: nn.Parameter) -> ShardedTarget:
        """Return a parameter as it waits for its creators' decision."""
        return ShardedTarget(self, module, name, self._waiting[id(parameter)], self._recording)

    def region(self, shard: Shard) -> Region:
        """Return the part of a tensor that this rank holds."""
        region: Region = self._dtensors.region_of(shard.tensor, shard.name)
        return region

    def device(self, tensor: torch.Tensor) -> torch.device:
        """Return where this rank's part of a tensor is to be."""
        ref = self._waiting[id(tensor)].ref
        return self._device or self._recording.tape.device(ref.storage)

    def answered(self, parameter: nn.Parameter, made: nn.Parameter) -> None:
        """Learn what creators returned for a parameter, be it on meta.

        Raises:
            CreatorResultError: It is another one.
        """
        shard = self._waiting.pop(id(parameter))
        if made is not parameter:
            raise own_parameter(shard.name)

    def put(self, shard: Shard, local: torch.Tensor, *, trainable: bool) -> None:
        """Let a tensor hold its part."""
        tensor = shard.tensor
        self._put.append((shard, self._dtensors.local_part(tensor), tensor.requires_grad))
        self._dtensors.put(tensor, local, trainable=trainable)

    def fill(self) -> None:
        """Give all others their own values."""
        shards = list(self._waiting.values())
        wished = [(shard.ref, self.region(shard)) for shard in shards]
        with bar("making the shards", len(shards)) as advance:
            for shard, value in zip(shards, self._recording.parts(wished), strict=True):
                tensor = shard.tensor
                local = value.to(self.device(tensor), tensor.dtype)
                self.put(shard, local, trainable=tensor.requires_grad)
                advance()

    def finish(self, model: nn.Module) -> None:
        """Let FSDP2 take notice that its sharded parameters have other memory."""
        self._dtensors.reset_fully_sharded(model)

    def put_back(self) -> None:
        """Leave every tensor as it waited, on meta."""
        for shard, local, trainable in self._put:
            self._dtensors.put(shard.tensor, local, trainable=trainable)


class ShardedTarget:
    """A sharded parameter on meta that waits for its creators' decision."""

    handed = device = None  # its creators are always heard

    def __init__(
        self, shards: Shards, module: nn.Module, name: str, shard: Shard, recording: Recording
    ) -> None:
        parameter = shard.tensor
        assert isinstance(parameter, nn.Parameter)
        self.module: nn.Module | None = module
        self.name = name
        self.parameter = parameter
        self.made: nn.Parameter | None = None
        self.spec: VariableSpec | None = None
        self.region: Region = shards.region(shard)
        self.value = TrueValue(recording, parameter, name, shard.ref)
        self._shards = shards
        self._shard = shard

    def fill(self, data: torch.Tensor | None, asked: Asked) -> nn.Parameter:
        """Return the parameter with ``data``, this rank's part, in it, or its own value's part."""
        parameter, device = self.parameter, asked.device
        if asked.shape not in (None, parameter.shape):
            raise other_shape(self.name, parameter.shape, asked.shape)
        for dtype in (asked.dtype, None if data is None else data.dtype):
            if dtype not in (None, parameter.dtype):
                raise other_dtype(self.name, parameter.dtype, dtype)
        if device is not None and device.type == "meta":
            parameter.requires_grad_(asked.trainable)
            return parameter
        if data is None:
            data = self.value.part(self.region)
        place = device or self._shards.device(parameter)
        self._shards.put(self._shard, data.to(place), trainable=asked.trainable)
        return parameter


def own_parameter(name: str) -> CreatorResultError:
    """Return the error for a creator that exchanged a sharded parameter."""
    return CreatorResultError(
        f"A creator returned a parameter of its own for {name!r}, which is sharded.",
        "Whoever sharded the model holds the parameter that it had then.",
        "Return next_creator(**kwargs), with another initial_value if need be; or exchange the "
        "parameter before the model is sharded: in the factory, or with build().",
    )


def other_dtype(name: str, expected: torch.dtype, actual: Any) -> CreatorResultError:
    """Return the error for a creator that gave a sharded parameter another dtype."""
    return CreatorResultError(
        f"A creator gave {name!r}, which is sharded, another dtype than it has.\n"
        f"  expected: {expected}\n"
        f"  actual:   {actual}",
        "Whoever sharded the model relies on the dtype that its parameters had then.",
        "Convert the model before it is sharded; or give an initial_value of the dtype it has.",
    )
