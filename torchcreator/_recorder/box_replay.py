"""Replay of a box: a part of a tensor's value, made of the parts that it depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from torchcreator._recorder.boxes import (
    Box,
    Located,
    Region,
    boxes_of,
    common,
    cut,
    locate,
    size_of,
    size_of_region,
    sub,
)
from torchcreator._recorder.elementwise import filled_with, is_elementwise, written
from torchcreator._recorder.replay import ReplayError, replay, run, view
from torchcreator._recorder.rng_boxes import AT_A_TIME, draw_box
from torchcreator._recorder.rng_draw import Draw
from torchcreator._recorder.rng_outputs import name_of
from torchcreator._recorder.rng_protocol import Draws
from torchcreator._recorder.tape import Op, Ref, Tape


def region_of(tape: Tape, draws: Draws, ref: Ref, region: Region) -> tuple[torch.Tensor, Op | None]:
    """Return a part of a tensor's value at the end, in memory of its own, laid out in rows.

    To be called without grad mode and function modes.

    Returns:
        The part; and the operation that left some of it as the memory was found, if one did.
    """
    replay = BoxReplay(tape, draws)
    made = replay.region(ref, region)
    if not draws.agrees():
        draws.restart()
        replay = BoxReplay(tape, draws)
        made = replay.region(ref, region)
    if replay.empty is None:
        return made, None
    other = BoxReplay(tape, draws, blank=0xFF).region(ref, region)
    same = torch.equal(made.view(-1).view(torch.uint8), other.view(-1).view(torch.uint8))
    return made, None if same else replay.empty


_DEEPEST, _MOST = 20, 200
"""Of what depends on more operations, one after the other or in all, the rest is made whole."""
_KEPT = 4  # operands: `x * x.abs()` reads one twice


class _Step(NamedTuple):
    """What one operation does to a box.

    Attributes:
        number: The operation.
        target: What it writes, as recorded.
        at: Where that lies in the grid.
        common: What of it the box has, in the grid.
        draw: What it draws, where that can be drawn in pieces.
    """

    number: int
    target: Ref
    at: Located
    common: Box
    draw: Draw | None


class BoxReplay:
    """Makes parts of one tensor's value.

    A box of a tensor of the tape is one itself. Its writers are walked from the last one back:
    those that wrote elsewhere are left out, and one that overwrote all of the box is the first.
    Then they are run, each on what the box has of it. Where an operation mixes elements, its
    storage is replayed whole, and cut; what comes after that goes on in parts.

    Args:
        tape: The tape.
        draws: Where random numbers come from.
        blank: The byte that memory which nobody initialised is filled with.

    Attributes:
        empty: An operation that left such memory, if there was one.
    """

    def __init__(self, tape: Tape, draws: Draws, *, blank: int = 0) -> None:
        self.empty: Op | None = None
        self._tape = tape
        self._draws = draws
        self._blank = blank
        self._wholes: dict[tuple[int, int], torch.UntypedStorage] = {}
        self._operands: dict[tuple[Ref, int], torch.Tensor] = {}
        self._depth = self._asked = 0

    def region(self, ref: Ref, region: Region) -> torch.Tensor:
        """Return a region of a tensor's value at the end, in memory of its own, in rows."""
        boxes = list(boxes_of(region))
        if len(boxes) == 1:
            return self._alone(sub(ref, boxes[0][0])).contiguous()
        place = self._tape.device(ref.storage)
        made = torch.empty(size_of_region(region), dtype=ref.dtype, device=place)
        for source, target in boxes:
            cut(made, target).copy_(self._alone(sub(ref, source)))
        return made

    def _alone(self, ref: Ref) -> torch.Tensor:
        self._operands.clear()
        self._asked = 0
        return self.part(ref, None)

    def part(self, ref: Ref, before: int | None) -> torch.Tensor:
        """Return the value that a tensor has before an operation, at the end where that is None."""
        place = self._tape.device(ref.storage)
        if not ref.size.numel():
            return torch.empty(ref.size, dtype=ref.dtype, device=place)
        dims = zip(ref.size, ref.stride, strict=True)
        once = torch.Size([length if stride else 1 for length, stride in dims])
        if once != ref.size:  # it was expanded
            return self.part(ref._replace(size=once), before).expand(ref.size)
        grid = self._tape.grid(ref.storage)
        at = None if grid is None else locate(grid, ref)
        if grid is None or at is None:
            return self._cut(ref, before).clone()
        steps, base = self._steps(grid, at.box, before)
        values = torch.empty(size_of(at.box), dtype=ref.dtype, device=place)
        if base is not None:
            values.copy_(self._cut(sub(grid, at.box), base + 1))
        for step in reversed(steps):
            self._run(step, at.box, values)
        return at.seen(values)

    def _cut(self, ref: Ref, before: int | None) -> torch.Tensor:
        """Return a part of a storage that is replayed whole: what was last is kept."""
        key = ref.storage, self._tape.last_writer(ref.storage, before)
        if key not in self._wholes:
            self._wholes.clear()
            numbers = self._tape.slice([ref.storage], before)
            empty = next((op for n in numbers if (op := self._tape.ops[n]).traits.empty), None)
            self.empty = self.empty or empty
            found = replay(self._tape, numbers, [ref.storage], self._draws, blank=self._blank)
            self._wholes[key] = view(self._tape, ref, found).untyped_storage()
        return view(self._tape, ref, {ref.storage: self._wholes[key]})

    def _operand(self, ref: Ref, number: int) -> torch.Tensor:
        """Return what an operation reads of a tensor; the last ones are kept for others.

        What takes very many of them is no more a part of anything: the rest is made whole.
        """
        key = ref, self._tape.last_writer(ref.storage, number)
        found = self._operands.get(key)
        if found is None:
            self._depth += 1
            self._asked += 1
            large = self._depth > _DEEPEST or self._asked > _MOST
            found = self._cut(ref, number).clone() if large else self.part(ref, number)
            self._depth -= 1
            self._operands[key] = found
            while len(self._operands) > _KEPT:
                del self._operands[next(iter(self._operands))]
        return found

    def _steps(self, grid: Ref, box: Box, before: int | None) -> tuple[list[_Step], int | None]:
        """Return what makes a box, the last first, and after which operation to begin, if any."""
        steps: list[_Step] = []
        for number in reversed(self._tape.writers(grid.storage, before)):
            op = self._tape.ops[number]
            target = written(op, grid.storage)
            at = None if target is None else locate(grid, target)
            if target is None or at is None:
                return steps, number
            shared = common(at.box, box)
            if shared is None:
                continue
            draw = self._draws.known(number) if op.traits.draws else None
            if draw is not None and not draw.step:
                draw = None
            if draw is None and not self._divides(op, target):
                return steps, number
            steps.append(_Step(number, target, at, shared, draw))
            if shared == box and (op.traits.fills or target in op.outputs):
                break
        return steps, None

    def _divides(self, op: Op, target: Ref) -> bool:
        """Return whether an operation can be run on a part of what it writes, or is a small one."""
        if op.traits.draws:
            return op.traits.fills and target.size.numel() <= AT_A_TIME
        return name_of(op) == "cat" or is_elementwise(op, target.size)

    def _run(self, step: _Step, box: Box, values: torch.Tensor) -> None:
        """Run one operation on what a box has of it."""
        op = self._tape.ops[step.number]
        corners = zip(step.common, box, strict=True)
        inside = tuple([(low - start, high - start) for (low, high), (start, _) in corners])
        target, own = step.at.seen(cut(values, inside)), step.at.within(step.common)
        try:
            if op.traits.draws:
                self._draw(step, own, target)
            elif op.traits.empty:
                self._leave_blank(op, target)
            elif name_of(op) == "cat":
                self._concatenate(step, own, target)
            else:
                self._compute(step, own, target)
        except ReplayError:
            raise
        except Exception as error:
            raise ReplayError(op) from error

    def _leave_blank(self, op: Op, target: torch.Tensor) -> None:
        self.empty = self.empty or op
        element = torch.full((target.element_size(),), self._blank, dtype=torch.uint8)
        target.copy_(element.view(target.dtype).squeeze())

    def _compute(self, step: _Step, own: Box, target: torch.Tensor) -> None:
        op, size = self._tape.ops[step.number], step.target.size
        number = filled_with(op)
        if number is not None:
            target.fill_(number)
            return
        in_place = step.target not in op.outputs
        args = [self._needed(value, size, own, step.number) for value in op.args[in_place:]]
        items = op.kwargs.items()
        kwargs = {word: self._needed(value, size, own, step.number) for word, value in items}
        if in_place:
            run(op, [target, *args], kwargs)
        else:
            target.copy_(run(op, args, kwargs))

    def _needed(self, value: Any, size: Sequence[int], own: Box, number: int) -> Any:
        """Return what a part of a result needs of an argument; a tensor may be broadcast."""
        if not isinstance(value, (Ref, torch.Tensor)):
            return value
        lengths = value.size if isinstance(value, Ref) else value.size()
        missing = len(size) - len(lengths)
        ranges = enumerate(lengths, missing)
        return self._taken(
            value, tuple([(0, 1) if n == 1 else own[dim] for dim, n in ranges]), number
        )

    def _taken(self, value: Ref | torch.Tensor, box: Box, number: int) -> torch.Tensor:
        return self._operand(sub(value, box), number) if isinstance(value, Ref) else cut(value, box)

    def _concatenate(self, step: _Step, own: Box, target: torch.Tensor) -> None:
        op, begin = self._tape.ops[step.number], 0
        dim = (op.args[1] if len(op.args) > 1 else op.kwargs.get("dim", 0)) % len(own)
        start, stop = own[dim]
        for piece in op.args[0]:
            size = piece.size if isinstance(piece, Ref) else piece.size()
            if len(size) != len(own):
                continue  # an empty one of one dimension may be among them
            low, high = max(start, begin), min(stop, begin + size[dim])
            if low < high:
                box = (*own[:dim], (low - begin, high - begin), *own[dim + 1 :])
                part = self._taken(piece, box, step.number)
                target.narrow(dim, low - start, high - low).copy_(part)
            begin += size[dim]

    def _draw(self, step: _Step, own: Box, target: torch.Tensor) -> None:
        """Put a box of what an operation draws into ``target``."""
        number, ref, draw = step.number, step.target, step.draw
        dtype, place = ref.dtype, target.device
        if draw is None:
            op = self._tape.ops[number]
            whole = torch.empty_strided(ref.size, ref.stride, dtype=dtype, device=place)
            self._draws.run(number, [whole, *op.args[1:]], op.kwargs)
            target.copy_(cut(whole, own))
            return
        drawn = target
        if not target.is_contiguous():
            drawn = torch.empty(size_of(own), dtype=dtype, device=place)
        draw_box(self._draws, number, draw, ref.size, own, drawn)
        if drawn is not target:
            target.copy_(drawn)
