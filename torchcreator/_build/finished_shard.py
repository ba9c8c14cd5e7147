"""A sharded parameter of a finished model: this rank has a part of its value, and changes that."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from torchcreator._build.finished_parameter import FinishedTarget, as_asked, require
from torchcreator._build.recorded_parameter import other_shape
from torchcreator._build.sharded_parameter import other_dtype, own_parameter
from torchcreator._chain.target import Asked
from torchcreator._errors import BuildError, CreatorResultError
from torchcreator._recorder.boxes import Region, boxes_of, common, cut, region_in, whole
from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.types import Creator, NextCreator


class FinishedShard(FinishedTarget):
    """A sharded parameter of a finished model that waits for its creators' decision.

    As the ``initial_value`` that they see, it has this rank's part, copied. Slices outside of that
    part, and a call for the whole, are an error: the rest is on other ranks.
    """

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
        self.region: Region = shards.region_of(parameter, name)
        self._local = shards.local_part(parameter)
        self._elsewhere: torch.device | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameter."""
        return self.parameter.dtype

    def __call__(self) -> torch.Tensor:
        return self[...]

    def __getitem__(self, index: Any) -> torch.Tensor:
        everything = whole(self.shape)
        region = [[one] for one in everything] if index is ... else region_in(index, self.shape)
        local = self._local if self.old is None else self.old
        for box, place in boxes_of(self.region) if region is not None else ():
            ((wished, _),) = boxes_of(region or ())
            if common(box, wished) == wished:
                pairs = zip(wished, box, place, strict=True)
                inner = [(a - c + e, b - c + e) for (a, b), (c, _), (e, _) in pairs]
                return as_asked(cut(local, tuple(inner)).detach())
        raise BuildError(
            f"More than this rank's part of {self.name!r} is asked for, which is sharded.",
            "The rest is on other ranks, and creation never communicates.",
            "Slice it as it is sharded; or recreate the model before it is sharded.",
        )

    def ask(self, creator: Creator, onward: NextCreator) -> None:
        """Call the creators, and keep what they return."""
        super().ask(creator, onward)
        if self.returned is not self.parameter:
            raise own_parameter(self.name)

    def fill(self, data: torch.Tensor | None, asked: Asked) -> nn.Parameter:
        """Return the parameter with ``data``, this rank's part of another value, in it."""
        parameter, device = self.parameter, asked.device
        if asked.shape is not None and asked.shape != parameter.shape:
            raise other_shape(self.name, parameter.shape, asked.shape)
        for dtype in (asked.dtype, None if data is None else data.dtype):
            if dtype is not None and dtype != parameter.dtype:
                raise other_dtype(self.name, parameter.dtype, dtype)
        if device is not None and device.type != self._local.device.type:
            self._elsewhere = device  # told at the end: a checkpoint that does not fit says more
        elif data is not None:
            self.old = self._local.clone()
            self._write(data)
        require(parameter, grad=asked.trainable)
        return parameter

    def _write(self, part: torch.Tensor) -> None:
        with torch.no_grad():
            self._local.copy_(part)

    def refuse(self) -> None:
        """Raise if it was to be on another device."""
        if self._elsewhere is not None:
            raise CreatorResultError(
                f"A creator put {self.name!r}, which is sharded, on another device than it is on.\n"
                f"  expected: {self._local.device}\n"
                f"  actual:   {self._elsewhere}",
                "Whoever sharded the model relies on where its parameters were then.",
                "Keep device as it comes, or move the model before it is sharded.",
            )

    @property
    def converted(self) -> bool:
        """Whether it has other memory than before: never."""
        return False

    def settle(self) -> None:
        """Keep what was decided: it is in the memory that there was."""

    def undo(self) -> None:
        """Let the parameter be what it was before its creators were asked."""
        if self.old is not None:
            self._write(self.old)
        if self.handed is not None:
            require(self.parameter, grad=self.handed.trainable)
