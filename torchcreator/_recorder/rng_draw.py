"""One draw: what it takes of torch's CPU generator, in outputs of 32 bits, and where to cut it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch


class Draw(NamedTuple):
    """What one operation draws.

    Attributes:
        elements: How many numbers.
        outputs: How many outputs it takes, but for what ``serial`` takes.
        serial: How many of the numbers are normal values made one after the other: four outputs
            make two of them, and the generator keeps the second until it is asked for.
        cost: About how long it takes, in ns.
        each: How many outputs each number takes, 0 where they do not take the same.
        step: It may be cut where the number of elements before is a multiple of this, 0 where it
            may not be cut.
        tail: How many elements its last piece must have.
        fill: The method of a tensor that draws the same, where there is one, for ``numbers``.
        numbers: Its arguments.
        block: How many elements have a state of their own to begin with, 0 where all have one.
            ``step`` and ``tail`` are meant of each block then.
    """

    elements: int
    outputs: int
    serial: int = 0
    cost: float = 0.0
    each: int = 0
    step: int = 0
    tail: int = 1
    fill: Callable[..., torch.Tensor] | None = None
    numbers: tuple[float, ...] = ()
    block: int = 0

    def taken(self, *, cached: bool) -> tuple[int, bool]:
        """Return how many outputs it takes, and whether a normal value waits afterwards.

        Args:
            cached: Whether one waits before.
        """
        if not self.serial:
            return self.outputs, cached
        pairs, odd = divmod(self.serial - cached + 1, 2)
        return 4 * pairs, not odd

    def run(self, target: torch.Tensor, generator: torch.Generator) -> None:
        """Draw all of it, or a piece, with ``fill``."""
        assert self.fill is not None
        self.fill(target, *self.numbers, generator=generator)

    def around(self, first: int, stop: int) -> tuple[int, int]:
        """Return the shortest piece that can be drawn by itself and holds all of a range.

        The pieces then hold, bit for bit, what the whole holds. Vectorised normals come in
        sixteens, the last of which is drawn again with the tail: that piece must have sixteen.
        """
        begin, end = self._block_of(first)
        low = begin + max(0, min(first, end - self.tail) - begin) // self.step * self.step
        begin, end = self._block_of(stop - 1)
        high = begin - (begin - stop) // self.step * self.step
        return low, end if high > end - self.tail else high

    def _block_of(self, element: int) -> tuple[int, int]:
        size = self.block or self.elements
        begin = element // size * size
        return begin, min(begin + size, self.elements)


def cut_near(draw: Draw, element: int) -> int | None:
    """Return the last place up to ``element`` where a draw is best cut, or None.

    That is where a block ends: going on inside of one means to draw up to there first.
    """
    step = draw.block or draw.step
    if not step:
        return None
    place = min(element, draw.elements - draw.tail) // step * step
    return place if place > 0 else None
