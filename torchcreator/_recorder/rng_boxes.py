"""A box of a draw: what it needs is drawn, in pieces that hold what the whole would hold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

import torch

from torchcreator._recorder.boxes import Box, Range, row_length, runs
from torchcreator._recorder.rng_draw import Draw
from torchcreator._recorder.rng_protocol import Draws

AT_A_TIME = 1 << 15
"""About how many elements are drawn at a time, where a draw may be cut anywhere."""


def draw_box(
    draws: Draws, number: int, draw: Draw, size: Sequence[int], box: Box, out: torch.Tensor
) -> None:
    """Draw a box of what an operation draws, a block at a time.

    Args:
        draws: Where random numbers come from.
        number: The operation.
        draw: What it draws; it may be cut.
        size: The size of the whole.
        box: The part.
        out: Memory of the box's size, contiguous.
    """
    row = math.lcm(row_length(size, AT_A_TIME), draw.step)
    length = draw.block or row * max(1, AT_A_TIME // row)
    unit, (low, high), ranges = runs(size, box, length)
    rows = out.view(-1, high - low)
    done, scratch = 0, out.new_empty(0)
    together = 1 if unit == 1 else length  # many rows, of which each gives a few columns
    pieces = _pieces(draw, [(start * unit, end * unit) for start, end in ranges], length, unit)
    for _, group in groupby(pieces, key=lambda piece: piece[0] // together):
        wanted = list(group)
        begin, end = draw.around(wanted[0][0], wanted[-1][1])
        if unit == 1 and (begin, end) == wanted[0]:
            draws.piece(number, draw, begin, rows[done : done + end - begin].view(-1))
            done += end - begin
            continue
        if len(scratch) < end - begin:
            scratch = torch.empty(end - begin, dtype=out.dtype, device=out.device)
        drawn = scratch[: end - begin]
        draws.piece(number, draw, begin, drawn)
        for first, stop in wanted:
            taken = drawn[first - begin : stop - begin].view(-1, unit)[:, low:high]
            rows[done : done + len(taken)].copy_(taken)
            done += len(taken)


def _pieces(draw: Draw, ranges: list[Range], length: int, unit: int) -> Iterator[Range]:
    """Yield ranges, those cut into pieces of a length that are not drawn where they belong."""
    for first, stop in ranges:
        if unit == 1 and draw.around(first, stop) == (first, stop):
            yield first, stop
            continue
        while first < stop:
            end = min(first // length * length + length, stop)
            yield first, end
            first = end
