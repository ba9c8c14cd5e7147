"""Large seeded draws in blocks, each with a state of its own: any part can be drawn by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from torchcreator._recorder.boxes import row_length
from torchcreator._recorder.rng_draw import Draw
from torchcreator._recorder.rng_jump import advance
from torchcreator._recorder.rng_outputs import draw_of, name_of
from torchcreator._recorder.tape import Op, Ref

_LEAST, _MOST, _OFF_CPU = 1 << 15, 1 << 18, 1 << 20
"""Elements. More make a shard pass over more of what is not its own; fewer take longer to begin
with than to draw. On a GPU a block is a kernel to launch."""
_RANKS = 8  # up to which a rank has blocks of a matrix for itself
_ALONE = frozenset({"init.trunc_normal_", "init._no_grad_trunc_normal_"})
"""What draws each element alike and alone, but takes a number of outputs that is not known."""
_HALF = frozenset({torch.bfloat16, torch.float16})
_FIRST, _WORDS = 24, 624  # where the words of a state on the CPU are, in fields of 64 bits


def in_blocks(op: Op, device: torch.device) -> Draw | None:
    """Return a draw as it is made in blocks; None where it is made as it is, all at once.

    Whole rows stay together, so that blocks depend on the shape alone, and ranks that have rows
    draw little else. Here it is cut between blocks only.
    """
    ref = op.args[0] if op.traits.fills else next(iter(op.outputs), None)
    if not isinstance(ref, Ref) or (elements := ref.size.numel()) <= _LEAST:
        return None  # nearly always
    most = _LEAST if device.type == "cpu" else _OFF_CPU
    if len(ref.size) <= 2 and device.type == "cpu":  # experts, say, are cut inside of each
        fits = _MOST // 2 if ref.dtype in _HALF else _MOST  # they are drawn beside, then rounded
        most = min(max(most, elements // _RANKS), fits)
    if elements <= most or op.traits.seeded is None:
        return None
    draw = draw_of(op)
    if draw is None or draw.fill is None:
        if name_of(op) not in _ALONE:
            return None
        words = {word: value for word, value in op.kwargs.items() if word != "generator"}
        fill = partial(op.traits.seeded, **words)
        draw = Draw(elements, 0, 0, elements * 6.0, fill=fill, numbers=op.args[1:])
    elif draw.fill is torch.Tensor.normal_ and ref.dtype in _HALF:
        draw = draw._replace(fill=_normal_rounded)
    row = row_length(ref.size, most)
    block = most // row * row
    return draw._replace(step=block, tail=1, block=block)


def draw_blocks(
    draw: Draw, first: int, target: torch.Tensor, begin: Callable[[int], torch.Generator]
) -> None:
    """Draw what ``target``, which is contiguous, holds from element ``first`` on.

    Args:
        draw: What it is a piece of.
        first: Where the target begins.
        target: The memory.
        begin: Returns a generator at the beginning of a block.
    """
    number, passed = divmod(first, draw.block)
    left = target.view(-1)
    if passed:
        generator = begin(number)
        advance(generator, passed * draw.each)
        draw.run(left[: draw.block - passed], generator)
        number, left = number + 1, left[draw.block - passed :]
    blocks = left.split(draw.block) if left.numel() else ()
    for block, values in enumerate(blocks, number):
        draw.run(values, begin(block))


class Beginnings:
    """A generator on the CPU that is put at the beginning of one block after the other."""

    def __init__(self) -> None:
        self._generator = torch.Generator("cpu")
        self._state = self._generator.manual_seed(0).get_state()
        self._bytes = bytearray(4 * _WORDS)
        self._drawn = torch.frombuffer(self._bytes, dtype=torch.int32)
        words = self._state[_FIRST : _FIRST + 8 * _WORDS]
        self._words = words.view(torch.int32)[::2]

    def at(self, stream: bytes, block: int) -> torch.Generator:
        """Return the generator where a block of a stream begins.

        All of its state comes from a hash: of a seed it would look at 32 bits, which two of the
        millions of blocks of a large model would have in common.
        """
        name = stream + block.to_bytes(8, "little")
        self._bytes[:] = hashlib.shake_128(name).digest(4 * _WORDS)
        self._words.copy_(self._drawn)
        self._generator.set_state(self._state)
        return self._generator


def _normal_rounded(target: torch.Tensor, *numbers: float, generator: torch.Generator) -> Any:
    """Draw normal values in single precision and round them, which is faster."""
    drawn = torch.empty(target.shape, dtype=torch.float32, device=target.device)
    return target.copy_(drawn.normal_(*numbers, generator=generator))
