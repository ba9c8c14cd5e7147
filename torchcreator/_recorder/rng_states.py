"""States of generators as bytes: which are the same, and how far one is after another."""

from __future__ import annotations

from ctypes import c_char

import torch

from torchcreator._recorder.rng_jump import Start, advance, put_place

_MERSENNE = 5056  # bytes of a state on the CPU; where it holds what: see `rng_jump`
_NEXT, _FIRST, _AFTER_WORDS = 16, 24, 5016
WAITS = 32
"""The last bytes of a state on the CPU: a normal value that waits to be used, if there is one."""

_MARKED = 56  # bytes: which word is next, the first word and five more
_WORDS = 624
_TELLING = 16  # words
_AT_A_TIME = 256  # blocks
_PHILOX = 16  # bytes of a state on a GPU: a seed, and how many numbers were taken
_FRESH = (1, 0)  # how many are left, and which is next, after seeding alone
_ON_CPU, _ON_GPU = c_char * _MERSENNE, c_char * _PHILOX  # ctypes makes them anew if nobody has them
_FOLLOWING = {n.to_bytes(8, "little"): (n + 1).to_bytes(8, "little") for n in range(1, _WORDS)}


def raw_of(state: torch.Tensor) -> bytes:
    """Return the bytes of a state; to be called without function modes."""
    return (c_char * state.numel()).from_address(state.data_ptr()).raw


def mark(state: torch.Tensor) -> bytes:
    """Return what tells a state from all others, in few bytes; called as `raw_of` is."""
    if state.numel() != _MERSENNE:
        return raw_of(state)
    raw = _ON_CPU.from_address(state.data_ptr()).raw
    # The second word on is all that is random.
    return raw[_NEXT : _NEXT + _MARKED] + raw[-WAITS:]


def next_mark(found: bytes) -> bytes:
    """Return the mark of the state one output later on the CPU, none where a new block begins."""
    following = _FOLLOWING.get(found[:8])
    return b"" if following is None else following + found[8:]


def word_and_block(found: bytes) -> tuple[int, bytes]:
    """Return which word of its block is next in a state with that mark, and what tells the block.

    On a GPU, what is next in what does not matter: two states have nothing in common.
    """
    return int.from_bytes(found[:8], "little"), found[8:]


def is_fresh(raw: bytes) -> bool:
    """Return whether a state on the CPU was seeded and not used since."""
    left, following = _integer(raw, 8, 4), _integer(raw, _NEXT, 8)
    return len(raw) == _MERSENNE and (left, following) == _FRESH


def distance(before: torch.Tensor, after: bytes, blocks: int) -> int | None:
    """Return how many outputs a state is after another one; called as `raw_of` is.

    Args:
        before: The other one.
        after: The bytes of the later one.
        blocks: How many blocks of outputs to look ahead on the CPU.

    Returns:
        None if it is none so near, or where states of this device are not known.
    """
    raw = raw_of(before)
    if len(raw) == len(after) == _PHILOX:
        taken = _integer(after, 8, 8) - _integer(raw, 8, 8)
        return taken if taken >= 0 and raw[:8] == after[:8] else None
    if not len(raw) == len(after) == _MERSENNE:
        return 0 if raw == after else None
    used = _used(after)
    if raw[_FIRST:_AFTER_WORDS] == after[_FIRST:_AFTER_WORDS]:
        return used - _used(raw) if used >= _used(raw) else None
    blocks_on = _blocks_to(before, after, blocks)
    return None if blocks_on is None else (blocks_on + 1) * _WORDS - _used(raw) + used


def _blocks_to(before: torch.Tensor, after: bytes, most: int) -> int | None:
    """Return how many blocks lie between that of a state and that of a later one."""
    generator = torch.Generator("cpu")
    generator.set_state(before)
    advance(generator, _WORDS - _used(raw_of(before)))
    wanted = _outputs_of_block(after)
    passed, ahead = 0, 1
    while passed < most:
        ahead = min(2 * ahead, most - passed, _AT_A_TIME)
        drawn = torch.empty(ahead, _WORDS, dtype=torch.int32, device="cpu")
        drawn.random_(generator=generator)
        alike = (drawn[:, 1 : 1 + _TELLING] == wanted).all(1).nonzero()
        if len(alike):
            return passed + int(alike[0])
        passed += ahead
    return None


def _outputs_of_block(raw: bytes) -> torch.Tensor:
    """Return the outputs of a state's block from its second word on, enough to tell it by."""
    state = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
    put_place(state, left=_WORDS, following=1)
    generator = torch.Generator("cpu")
    generator.set_state(state)
    return torch.empty(_TELLING, dtype=torch.int32, device="cpu").random_(generator=generator)


def moved(state: torch.Tensor, outputs: int, waits: torch.Tensor) -> torch.Tensor:
    """Return a state so many outputs on, with the normal value that waits in another one."""
    if state.numel() == _PHILOX:
        on = state.clone()
        on[8:].view(torch.int64).add_(outputs)
        return on
    on = Start(state).after(outputs)
    on[-WAITS:] = waits[-WAITS:]
    return on


def _used(raw: bytes) -> int:
    """Return how many outputs were taken of the block."""
    return _WORDS + 1 - _integer(raw, 8, 4)


def _integer(raw: bytes, start: int, length: int) -> int:
    return int.from_bytes(raw[start : start + length], "little")
