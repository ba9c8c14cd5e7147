"""Boxes: parts of tensors that are ranges in every dimension, and where they lie in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Any, NamedTuple, TypeAlias

import torch

from torchcreator._recorder.tape import Ref

Range: TypeAlias = tuple[int, int]
Box: TypeAlias = tuple[Range, ...]
"""From where to where in each dimension, the end not included."""

Region: TypeAlias = Sequence[Sequence[Range]]
"""The ranges that a part takes in each dimension, in their order: a rank's part of a tensor."""


def whole(size: Sequence[int]) -> Box:
    """Return the box that covers everything."""
    return tuple([(0, length) for length in size])


def size_of(box: Box) -> torch.Size:
    """Return the size of what a box cuts out."""
    return torch.Size([stop - start for start, stop in box])


def cut(tensor: torch.Tensor, box: Box) -> torch.Tensor:
    """Return the view of a tensor that a box cuts out."""
    for dim, (start, stop) in enumerate(box):
        if stop - start != tensor.size(dim):
            tensor = tensor.narrow(dim, start, stop - start)
    return tensor


def region_in(index: Any, size: Sequence[int]) -> Region | None:
    """Return the region that one indexes by, None where it is no slice of each dimension."""
    asked = index if isinstance(index, tuple) else (index,)
    steps = (one.step for one in asked if isinstance(one, slice))
    if len(asked) > len(size) or not all(isinstance(one, slice) for one in asked):
        return None
    if any(step not in (None, 1) for step in steps):
        return None
    rest = [slice(None)] * (len(size) - len(asked))
    ends = [one.indices(length)[:2] for one, length in zip((*asked, *rest), size, strict=True)]
    return [[(start, max(start, stop))] for start, stop in ends]


def boxes_of(region: Region) -> Iterator[tuple[Box, Box]]:
    """Yield the boxes of a region, and where each lies in the tensor that holds the region."""
    placed = []
    for ranges in region:
        ends = [0]
        for start, stop in ranges:
            ends.append(ends[-1] + stop - start)
        placed.append(list(zip(ranges, pairwise(ends), strict=True)))
    for chosen in product(*placed):
        yield tuple([source for source, _ in chosen]), tuple([target for _, target in chosen])


def size_of_region(region: Region) -> torch.Size:
    """Return the size of the tensor that holds a region."""
    return torch.Size([sum(stop - start for start, stop in ranges) for ranges in region])


def sub(ref: Ref, box: Box) -> Ref:
    """Return what a box cuts out of a tensor of the tape: a part of one is one itself."""
    starts = zip(box, ref.stride, strict=True)
    offset = ref.offset + sum(start * stride for (start, _), stride in starts)
    return ref._replace(size=size_of(box), offset=offset)


class Located(NamedTuple):
    """Where a tensor lies in the grid of its storage.

    Attributes:
        box: What it covers of the grid.
        order: For each of its dimensions the grid's, None where it has length 1 and is none.
    """

    box: Box
    order: tuple[int | None, ...]

    def within(self, common: Box) -> Box:
        """Return a box of the grid in this tensor's own dimensions, counted from its start."""
        return tuple(
            (0, 1) if dim is None else (common[dim][0] - start, common[dim][1] - start)
            for dim in self.order
            for start in [0 if dim is None else self.box[dim][0]]
        )

    def seen(self, values: torch.Tensor) -> torch.Tensor:
        """Return a tensor with the grid's dimensions in this tensor's dimensions."""
        if self.order == (*range(values.dim()),):  # nearly always
            return values
        kept = [dim for dim in self.order if dim is not None]
        left = [dim for dim in range(values.dim()) if dim not in kept]  # of length 1
        seen = values.permute([*left, *kept])
        for _ in left:
            seen = seen.squeeze(0)
        for position, dim in enumerate(self.order):
            if dim is None:
                seen = seen.unsqueeze(position)
        return seen


def locate(grid: Ref, ref: Ref) -> Located | None:
    """Return where ``ref`` lies in ``grid``, which is dense; None where it is no box of it."""
    if ref == grid:  # nearly always
        return Located(whole(grid.size), (*range(len(grid.size)),))
    if ref.dtype is not grid.dtype or ref.conj or ref.neg or ref.offset < grid.offset:
        return None
    by_stride = sorted(
        (dim for dim, length in enumerate(grid.size) if length != 1),
        key=lambda dim: -grid.stride[dim],
    )
    rest, starts = ref.offset - grid.offset, [0] * len(grid.size)
    for dim in by_stride:
        starts[dim], rest = divmod(rest, grid.stride[dim])
    dims = {grid.stride[dim]: dim for dim in by_stride}
    box = [(start, start + 1) for start in starts]
    order: list[int | None] = []
    for length, stride in zip(ref.size, ref.stride, strict=True):
        found = None if length == 1 else dims.pop(stride, None)
        if found is not None:
            box[found] = starts[found], starts[found] + length
        elif length != 1:
            return None
        order.append(found)
    inside = all(stop <= length for (_, stop), length in zip(box, grid.size, strict=True))
    return Located(tuple(box), tuple(order)) if inside and not rest else None


def common(first: Box, second: Box) -> Box | None:
    """Return what two boxes have in common, None where that is nothing."""
    both = tuple([(max(a, c), min(b, d)) for (a, b), (c, d) in zip(first, second, strict=True)])
    return None if any(start >= stop for start, stop in both) else both


def row_length(size: Sequence[int], most: int) -> int:
    """Return how many elements the largest whole rows have that do not exceed ``most``."""
    length = 1
    for extent in reversed(size):
        if length * extent > most:
            break
        length *= extent
    return max(length, 1)


class Runs(NamedTuple):
    """How a box lies among a tensor's elements, counted in logical order.

    Attributes:
        unit: The elements are counted by this many.
        taken: Which of each unit's belong to the box.
        ranges: From which unit to which, in order.
    """

    unit: int
    taken: Range
    ranges: list[Range]


def runs(size: Sequence[int], box: Box, length: int) -> Runs:
    """Return how a box lies in a tensor that is made in blocks of ``length`` elements.

    Where blocks have several rows each, a range of columns is taken out of many rows at once.
    """
    partial = last_partial(size, box)
    if partial is None:
        return Runs(1, (0, 1), [(0, math.prod(size))])
    inner = math.prod(size[partial + 1 :])
    row = inner * size[partial]
    if length <= row or length % row:
        return Runs(1, (0, 1), list(_ranges(size, box)))
    start, stop = box[partial]
    taken = start * inner, stop * inner
    return Runs(row, taken, list(_ranges(size[:partial], box[:partial])))


def rows(size: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a tensor that lies in memory row by row."""
    return tuple([math.prod(size[dim + 1 :]) for dim in range(len(size))])


def in_one_piece(size: Sequence[int], box: Box) -> int | None:
    """Return the element at which a part begins that is in one piece, None for one that is not."""
    partial = last_partial(size, box)
    if any(stop - start != 1 for start, stop in box[: partial or 0]):
        return None
    return sum(start * stride for (start, _), stride in zip(box, rows(size), strict=True))


def elements_of(size: Sequence[int], region: Region) -> Range | None:
    """Return the elements of a region that is in one piece, None for one that is not."""
    if any(len(ranges) > 1 for ranges in region):
        return None
    box = tuple([ranges[0] for ranges in region])
    first = in_one_piece(size, box)
    return None if first is None else (first, first + size_of(box).numel())


def last_partial(size: Sequence[int], box: Box) -> int | None:
    """Return the last dimension of which a box has a part, None if it has all of each."""
    dims = reversed(range(len(size)))
    return next((dim for dim in dims if box[dim] != (0, size[dim])), None)


def _ranges(size: Sequence[int], box: Box) -> Iterator[Range]:
    """Yield the elements of a box, as ranges that are as long as can be."""
    partial = last_partial(size, box)
    if partial is None:
        yield 0, math.prod(size)
        return
    inner = math.prod(size[partial + 1 :])
    start, stop = (end * inner for end in box[partial])
    strides = [math.prod(size[dim + 1 :]) for dim in range(partial)]
    for index in product(*(range(*one) for one in box[:partial])):
        base = sum(i * stride for i, stride in zip(index, strides, strict=True))
        yield base + start, base + stop
