"""A finished parameter of which this rank has a part, as its creators meet it: whole to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from torchcreator._build.finished_parameter import CurrentValue, FinishedTarget
from torchcreator._build.recorded_parameter import other_shape
from torchcreator._build.sharded_parameter import other_dtype, own_parameter
from torchcreator._chain.initial_value import wanted
from torchcreator._chain.target import Asked
from torchcreator._errors import BuildError, CreatorResultError
from torchcreator._recorder.boxes import Range, Region, region_in
from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.types import Creator, NextCreator


class PartialValue(CurrentValue):
    """The value that a sharded parameter has: this rank's part of it can be sliced.

    Args:
        whole: The parameter.
        name: Its full name.
        part: What this rank has of it.
        region: Which part that is.
    """

    __slots__ = ("_region", "_whole")

    def __init__(self, whole: torch.Tensor, name: str, part: torch.Tensor, region: Region) -> None:
        super().__init__(part, name)
        self._whole = whole
        self._region = region

    @property
    def shape(self) -> torch.Size:
        """The shape of the whole value."""
        return self._whole.shape

    def __call__(self) -> torch.Tensor:
        asked = wanted()
        if asked is not None and asked.dtype not in (None, self.dtype):
            raise other_dtype(self.name, self.dtype, asked.dtype)
        raise self._elsewhere("called")

    def __getitem__(self, index: Any) -> torch.Tensor:
        region = region_in((() if index is ... else index), self.shape)
        if region is None:
            raise self._elsewhere(f"asked for [{index}]")
        part = self.tensor
        for dim, (asked, own) in enumerate(zip(region, self._region, strict=True)):
            start = _place(asked[0], own)
            if start is None:
                raise self._elsewhere(f"asked for [{index}]")
            part = part.narrow(dim, start, asked[0][1] - asked[0][0])
        asked_for = wanted()
        dtype, device = (None, None) if asked_for is None else (asked_for.dtype, asked_for.device)
        return part.detach().to(device, dtype, copy=True)

    def _elsewhere(self, what: str) -> BuildError:
        return BuildError(
            f"The value of {self.name!r}, which is sharded, was {what}.",
            f"This rank has {[list(ranges) for ranges in self._region]} of it, by dimension; the "
            "rest is on others, and creation never communicates.",
            "Set another initial_value, one that can be sliced say; or slice it within that part.",
        )


class FinishedShard(FinishedTarget):
    """A sharded parameter of a finished model that waits for its creators' decision."""

    __slots__ = ("_local", "_moved", "region")
    region: Region

    def __init__(
        self,
        parameter: nn.Parameter,
        name: str,
        module: nn.Module,
        local: str,
        declared: VariableSpec | None,
    ) -> None:
        from torchcreator._build import shards  # it takes half a second to import

        super().__init__(parameter, name, module, local, declared)
        self.region = shards.region_of(parameter, name)
        self._local = shards.local_part(parameter)
        self._moved: torch.device | None = None

    def ask(self, creator: Creator, onward: NextCreator) -> None:
        """Call the creators, and refuse a parameter of their own."""
        super().ask(creator, onward)
        if self.returned is not self.parameter:
            raise own_parameter(self.name)

    def own_value(self) -> CurrentValue:
        """Return its value as creators receive it."""
        return PartialValue(self.parameter, self.name, self._local, self.region)

    def fill(self, data: torch.Tensor | None, asked: Asked) -> nn.Parameter:
        """Return the parameter with ``data``, this rank's part, in it, or as it is."""
        parameter = self.parameter
        if asked.shape not in (None, parameter.shape):
            raise other_shape(self.name, parameter.shape, asked.shape)
        for dtype in (asked.dtype, None if data is None else data.dtype):
            if dtype not in (None, parameter.dtype):
                raise other_dtype(self.name, parameter.dtype, dtype)
        if asked.device is not None and asked.device.type != parameter.device.type:
            self._moved = asked.device  # told at the end: a checkpoint that does not fit says more
        elif data is not None:
            self.old = self._local.clone()
            assert self.value is not None
            self.value.tensor = self.old
            with torch.no_grad():
                self._local.copy_(data)
        if parameter.requires_grad is not asked.trainable:
            parameter.requires_grad_(asked.trainable)
        return parameter

    def refuse(self) -> None:
        """Raise if it was to be moved: whoever sharded it relies on where its parts are."""
        if self._moved is not None:
            raise CreatorResultError(
                f"A creator moved {self.name!r}, which is sharded.\n"
                f"  expected: {self.parameter.device}\n"
                f"  actual:   {self._moved}",
                "Whoever sharded the model relies on the device that its parameters had then.",
                "Move the model before it is sharded.",
            )

    @property
    def converted(self) -> bool:
        """Whether it has another dtype or device than before: never."""
        return False

    def settle(self) -> None:
        """Keep what was decided."""

    def undo(self) -> None:
        """Let the parameter be what it was before its creators were asked."""
        if self.old is not None:
            with torch.no_grad():
                self._local.copy_(self.old)
        if self.handed is not None and self.parameter.requires_grad is not self.handed[0]:
            self.parameter.requires_grad_(self.handed[0])


def _place(asked: Range, own: Sequence[Range]) -> int | None:
    """Return where a range begins in what a rank has of a dimension; None if it has not all."""
    before = 0
    for start, stop in own:
        if start <= asked[0] and asked[1] <= stop:
            return before + asked[0] - start
        before += stop - start
    return None
