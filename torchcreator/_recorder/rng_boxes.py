"""A box of a draw: what it needs is drawn, in pieces that hold what the whole would hold."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from torchcreator._recorder.boxes import Box, row_length, runs
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
    row, elements = row_length(size, AT_A_TIME), draw.elements
    length = math.lcm(row, draw.step)
    length *= max(1, AT_A_TIME // length)
    last = max(0, elements - draw.tail) // length  # block; it has the rest
    unit, (low, high), ranges = runs(size, box, length)
    rows = out.view(-1, high - low)
    drawn, held, done = out, -1, 0
    for first, stop in ((start * unit, end * unit) for start, end in ranges):
        while first < stop:
            block = min(first // length, last)
            begin = block * length
            end = elements if block == last else begin + length
            if unit == 1 and first == begin and end <= stop:  # as many blocks as there are
                end = elements if stop == elements else min(stop // length, last) * length
                draws.piece(number, draw, first, rows[done : done + end - first].view(-1))
            else:
                if held != block:
                    held = block
                    drawn = torch.empty(end - begin, dtype=out.dtype, device=out.device)
                    draws.piece(number, draw, begin, drawn)
                end = min(end, stop)
                taken = drawn[first - begin : end - begin].view(-1, unit)[:, low:high]
                rows[done : done + (end - first) // unit].copy_(taken)
            done += (end - first) // unit
            first = end
