"""A tensor of a checkpoint: its form, and its value, whole or a part without the rest."""

from __future__ import annotations

import ctypes
import functools
import io
import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import torch

from torchcreator._errors import CheckpointError
from torchcreator._recorder.boxes import (
    Box,
    boxes_of,
    cut,
    in_one_piece,
    last_partial,
    region_in,
    rows,
    size_of,
    whole,
)
from torchcreator._spec.lazy import copy_into
from torchcreator._torch.dtensor import is_sharded

_AT_ONCE = 1 << 22  # bytes of rows, of which a few columns are wanted
_SKIPPED = 1 << 15  # bytes between two pieces that take longer to read than a call does


class Stored(Protocol):
    """A tensor of a checkpoint.

    Attributes:
        file: Where it is; None for one in memory.
        shape: Its shape.
        dtype: Its dtype.
    """

    @property
    def file(self) -> Path | None: ...

    @property
    def shape(self) -> torch.Size: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def part(self, box: Box, *, copy: bool) -> torch.Tensor:
        """Return a part of its value.

        Args:
            box: The part.
            copy: Whether it has to be in memory of its own.

        Raises:
            CheckpointError: Its file was changed or replaced since it was opened.
        """
        ...

    def check(self) -> None:
        """Raise the same where its file was changed or replaced."""
        ...


class File:
    """A file that is mapped into memory, and must not change.

    Args:
        path: The file, of which nothing was read yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = _state(path)
        self.size = self._seen[0]

    def check(self, name: str) -> None:
        """Refuse a file that is another one than when its header was read.

        Args:
            name: The tensor that is to be read.
        """
        try:
            same = _state(self.path) == self._seen
        except OSError:
            same = False
        if not same:
            raise CheckpointError(
                f"The checkpoint file {str(self.path)!r} was changed or replaced since it was "
                f"opened, and {name!r} is still to be read.",
                "What it says of its tensors was read before that: their values would be others.",
                "Call from_checkpoint() again. Write a checkpoint under a new name, and rename it.",
            )

    @functools.cached_property
    def mapped(self) -> torch.UntypedStorage:
        """Its pages, which are private to this process where they are written to."""
        storage = torch.UntypedStorage.from_file(str(self.path), False, self.size)
        assert isinstance(storage, torch.UntypedStorage)  # torch declares a wider type
        return storage


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


class InFile:
    """A tensor that lies in a file, one row after the other."""

    def __init__(
        self, within: File, name: str, begin: int, shape: torch.Size, dtype: torch.dtype
    ) -> None:
        self._within = within
        self._name = name
        self._begin = begin
        self.file: Path | None = within.path
        self.shape = shape
        self.dtype = dtype

    def part(self, box: Box, *, copy: bool) -> torch.Tensor:
        """Return a part: pages of the file if it is in one piece, else read row by row.

        Through the map, a few columns would bring every page of the file into memory.
        """
        self.check()  # a page that is gone kills the process
        part = self._part(box, copy=copy)
        self.check()  # it may have been another file that was opened
        return part

    def check(self) -> None:
        """Refuse a file that is another one than when its header was read."""
        self._within.check(self._name)

    def _part(self, box: Box, *, copy: bool) -> torch.Tensor:
        size, piece = size_of(box), in_one_piece(self.shape, box)
        if not size.numel():
            return torch.empty(size, dtype=self.dtype, device="cpu")
        if copy or piece is None:
            return self._read(box)
        begin = self._begin + piece * self.dtype.itemsize
        # A slice of a storage is a storage of its own: saving one tensor does not save the file.
        storage = self._within.mapped[begin : begin + size.numel() * self.dtype.itemsize]
        if begin % self.dtype.itemsize:  # old files are not padded, not every machine reads those
            storage = storage.clone()
        return torch.empty(0, dtype=self.dtype, device="cpu").set_(storage, 0, size, rows(size))

    def _read(self, box: Box) -> torch.Tensor:
        """Return a part in memory of its own, without a page of the map."""
        made = torch.empty(size_of(box), dtype=self.dtype, device="cpu")
        with self._within.path.open("rb", buffering=0) as file:
            if in_one_piece(self.shape, box) is not None:
                self._read_into(file, box, made)
                return made
            dim = last_partial(self.shape, box)
            assert dim is not None  # else it would be in one piece
            row = math.prod(self.shape[dim:]) * self.dtype.itemsize
            if row - made[(0,) * dim].nbytes >= _SKIPPED:
                for index, outer in _indices(box[:dim]):
                    self._read_into(file, (*outer, *box[dim:]), made[index])
            else:
                self._read_rows(file, box, dim, max(1, _AT_ONCE // row), made)
        return made

    def _read_rows(
        self, file: io.FileIO, box: Box, dim: int, height: int, made: torch.Tensor
    ) -> None:
        """Read whole rows, ``height`` at a time, and keep what a box has of dimension ``dim``."""
        first, last = box[dim - 1]
        size = min(height, last - first), *self.shape[dim:]
        buffer = torch.empty(size, dtype=self.dtype, device="cpu")
        for index, outer in _indices(box[: dim - 1]):
            for start in range(first, last, height):
                stop = min(start + height, last)
                read = buffer[: stop - start]
                self._read_into(file, (*outer, (start, stop), *whole(self.shape[dim:])), read)
                kept = cut(read, ((0, stop - start), *box[dim:]))
                made[index][start - first : stop - first].copy_(kept)

    def _read_into(self, file: io.FileIO, box: Box, target: torch.Tensor) -> None:
        """Read what lies in one piece into memory that does."""
        piece = in_one_piece(self.shape, box)
        assert piece is not None  # it was asked for piece by piece
        file.seek(self._begin + piece * self.dtype.itemsize)
        view = memoryview((ctypes.c_char * target.nbytes).from_address(target.data_ptr()))
        done = 0
        while done < target.nbytes:
            count = file.readinto(view[done:])
            if not count:
                raise damaged(self._within.path, f"it ends inside of {self._name!r}")
            done += count


class InMemory:
    """A tensor of a mapping, or of a file that torch has read or mapped itself."""

    def __init__(self, tensor: torch.Tensor, within: File | None = None, name: str = "") -> None:
        self._tensor = tensor.detach()
        self._within = within
        self._name = name
        self.file = None if within is None else within.path
        self.shape = tensor.shape
        self.dtype = tensor.dtype

    def part(self, box: Box, *, copy: bool) -> torch.Tensor:
        """Return a part, copied unless it is all of what was read for this."""
        self.check()
        part = cut(self._tensor, box)
        if self._within is None or copy or part is not self._tensor:
            part = part.clone(memory_format=torch.contiguous_format)
        self.check()
        return part

    def check(self) -> None:
        """Refuse a file that is another one than when it was opened."""
        if self._within is not None:
            self._within.check(self._name)


class StoredValue:
    """The value of a variable that a checkpoint has, read when it is called or sliced.

    Args:
        stored: The tensor.
        name: What it is called there.
        dtype: What to convert it to; None leaves it as it is.
        copy: Whether to copy it.
    """

    __slots__ = ("_copy", "_name", "_stored", "dtype")

    def __init__(self, stored: Stored, name: str, dtype: torch.dtype | None, *, copy: bool) -> None:
        self._stored = stored
        self._name = name
        self._copy = copy
        self.dtype = dtype or stored.dtype

    @property
    def shape(self) -> torch.Size:
        """The shape of the whole value."""
        return self._stored.shape

    def __call__(self) -> torch.Tensor:
        return self._part(whole(self.shape))

    def __getitem__(self, index: Any) -> torch.Tensor:
        region = region_in(index, self.shape)
        return self()[index] if region is None else self._part(tuple([one for (one,) in region]))

    def _part(self, box: Box) -> torch.Tensor:
        return self._stored.part(box, copy=self._copy).to(self.dtype)

    def read_into(self, buffer: torch.Tensor) -> None:
        """Write it into a tensor, of which this rank may have a part."""
        with torch.no_grad():
            if not is_sharded(buffer):
                copy_into(buffer, self())
                return
            from torchcreator._build.shards import region_of  # it takes half a second to import

            local = buffer.to_local()
            for source, target in boxes_of(region_of(buffer, self._name)):
                cut(local, target).copy_(self._part(source))

    def __repr__(self) -> str:
        return f"<{self._name!r} of {self._stored.file or 'a mapping'}>"


def _indices(box: Box) -> Iterator[tuple[tuple[int, ...], Box]]:
    """Yield the index of each element of a box, counted from its start, and where it is."""
    for index in product(*(range(stop - start) for start, stop in box)):
        places = zip(box, index, strict=True)
        yield index, tuple([(start + i, start + i + 1) for (start, _), i in places])


def damaged(path: Path, reason: str) -> CheckpointError:
    """Return the error for a file that is not what it should be."""
    return CheckpointError(
        f"The checkpoint file {str(path)!r} cannot be read.",
        f"It is truncated, damaged or of another kind: {reason}.",
        "Download or save it again. No parameter was made from it.",
    )
