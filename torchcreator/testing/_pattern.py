"""Values out of one pattern: copied when small, mapped copy-on-write when large."""

from __future__ import annotations

import functools
import os
import sys
import threading

import torch

BLOCK = 65_521
"""The period of the pattern: a prime, so that the rows of a matrix differ."""
_GOLDEN = 0.618_033_988_749_894_9
_SPREAD = 0.02 * 3**0.5  # uniform within ± this: a standard deviation of 0.02
_STARTS, _APART = 1013, 32
"""How many places a value may start at, and how many elements lie between them: 64 bytes or more,
for aligned vector loads."""
_MAPPED = 32_768
"""From how many elements a mapping costs less than a copy; with the last start, within a block."""

_HAS_FILES = sys.platform == "linux"
"""Whether a file can be in memory, and be opened by a path."""

_growing = threading.Lock()


def patterned(count: int, dtype: torch.dtype, start: int) -> torch.Tensor:
    """Return ``count`` elements of the pattern on the CPU, free to be written.

    Args:
        count: How many.
        dtype: A floating or complex dtype.
        start: Any number; different ones mostly begin at different places.
    """
    if dtype.is_complex:
        return torch.view_as_complex(patterned(2 * count, dtype.to_real(), start).view(-1, 2))
    offset = start % _STARTS * _APART
    if count < _MAPPED:
        return _block(dtype)[offset : offset + count].clone()
    if not _HAS_FILES:
        repeats = -(-(offset + count) // BLOCK)
        return _block(dtype).repeat(repeats)[offset : offset + count].clone()
    return _file(dtype).mapped(offset + count)[offset:]


@functools.cache
def _block(dtype: torch.dtype) -> torch.Tensor:
    """Return one period: multiples of the golden ratio modulo one, the most evenly spread."""
    numbers = torch.arange(BLOCK, dtype=torch.float64, device="cpu") * _GOLDEN % 1.0
    return ((2 * numbers - 1) * _SPREAD).to(dtype)


class _File:
    """A file in memory that holds the pattern, as often as the largest fake so far needs."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.elements = 0
        self.path = f"/proc/self/fd/{os.memfd_create('torchcreator-fakes')}"

    def mapped(self, count: int) -> torch.Tensor:
        """Return the first ``count`` elements; what is written to them stays theirs."""
        with _growing:
            if self.elements < count:
                self._grow(-(-count // BLOCK) * BLOCK)
        # Without the file descriptor that Python's mmap would keep open for each of them.
        return torch.from_file(self.path, shared=False, size=count, dtype=self.dtype, device="cpu")

    def _grow(self, elements: int) -> None:
        whole = torch.from_file(
            self.path, shared=True, size=elements, dtype=self.dtype, device="cpu"
        )
        whole[self.elements :].view(-1, BLOCK).copy_(_block(self.dtype))
        self.elements = elements


@functools.cache
def _file(dtype: torch.dtype) -> _File:
    return _File(dtype)
