"""Torch's CPU generator, the Mersenne Twister, moved ahead by any distance in milliseconds.

The generator (Matsumoto and Nishimura, 1998) is linear over GF(2), so n steps are the polynomial
t^n modulo its characteristic polynomial, applied to the sequence of its words (Haramoto,
Matsumoto, Nishimura, Panneton and L'Ecuyer, 2008). Here it is applied to the words' lowest bits
only, as a correlation by FFT: one bit of each word determines all the others.

A *state* is what `torch.Generator.get_state` returns, an *output* 32 bits that it gives out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from torchcreator._recorder.rng_polynomial import DEGREE, FREE_BITS, TWIST, Recent, power
from torchcreator._torch.dispatch import no_function_modes, past_dispatch

_CPU = torch.device("cpu")

# Where a state holds what, in bytes. A word is 32 bits in a field of 64; a block has 624 of them,
# and the next block is made when the next output is asked for.
_LEFT, _NEXT, _FIRST, _CACHED, _FLAG, _END = 8, 16, 24, 5024, 5040, 5056
_WORDS = 624
_AFTER_WORDS = _FIRST + 8 * _WORDS

# Above these sizes torch and MKL go to other threads, and on a busy machine one call then waits
# for a core longer than the whole jump takes: 8,192 numbers to an FFT, 32,768 elsewhere, 2,048 to
# `round` and the like.
_BLOCK = 4096
_BLOCKS = 5  # of the polynomial's coefficients, and of the bits wanted
_WINDOWS = 2 * _BLOCKS - 1  # of two blocks each, on the start's bits
_WANTED = (1 << (DEGREE + 1)) - 1

# Processor time in ns.
_DRAWING = 1.8  # an output
_SQUARING = 1.0e5  # a power, per bit of its exponent
_SPECTRUM_OF_POWER, _SPECTRA_OF_START, _THE_REST = 3.0e5, 6.5e5, 5.7e5
_WORTH_A_LOOK = 1 << 18  # outputs, fewer than which are drawn whatever is known already
_BUFFER = 1 << 13  # numbers of 64 bits: they stay in the cache

_powers: Recent[int] = Recent(64)  # 2.5 kB each
_spectra: Recent[torch.Tensor] = Recent(8)  # 164 kB each


class Place(NamedTuple):
    """Where in its block a generator stands.

    Attributes:
        left: 625 less the number of outputs that were used of the block; a field of the state.
        next: The word to come, 0 after seeding, when all are used; a field of the state.
        cached: Whether the second of a pair of normal values is waiting to be used.
    """

    left: int
    next: int
    cached: bool


def place_of(state: torch.Tensor) -> Place:
    """Return where a state stands in its block."""
    with as_written():
        return _place_of(state)


def after(state: torch.Tensor, outputs: int, *, keep_cached: bool = True) -> torch.Tensor:
    """Return the state after ``outputs`` more, as a tensor of its own.

    Args:
        state: A state of a CPU generator.
        outputs: How many, 0 or more.
        keep_cached: Whether a normal value that waits to be used stays in the state.
    """
    return Start(state).after(outputs, keep_cached=keep_cached)


def advance(generator: torch.Generator, outputs: int) -> None:
    """Move a CPU generator on by ``outputs``; a normal value that waits to be used stays."""
    if outputs < _WORTH_A_LOOK:
        with as_written():
            _draw(generator, outputs)
    else:
        generator.set_state(after(generator.get_state(), outputs))


class Start:
    """A state to go on from, any number of times: what depends on it alone is computed once."""

    def __init__(self, state: torch.Tensor) -> None:
        with as_written():
            self._state = state.clone()
        self._windows: torch.Tensor | None = None

    def after(
        self, outputs: int, *, keep_cached: bool = True, pair: int | None = None
    ) -> torch.Tensor:
        """Return the state after ``outputs`` more, as a tensor of its own.

        Args:
            outputs: How many, 0 or more.
            keep_cached: Whether a normal value that waits to be used stays in the state.
            pair: After how many outputs the four begin that make a pair of normal values, the
                second of which is to wait in the state instead.
        """
        with as_written():
            state = self._moved(outputs)
            if not keep_cached:
                state[_CACHED:_END] = 0
            if pair is not None:
                state[_CACHED:_END] = self._waiting(pair)
            return state

    def _waiting(self, pair: int) -> torch.Tensor:
        """Return the part of a state that holds the second of a pair of normal values."""
        state = self._moved(pair)
        state[_CACHED:_END] = 0
        generator = torch.Generator(_CPU)
        generator.set_state(state)
        torch.empty(1, dtype=torch.float64, device=_CPU).normal_(generator=generator)
        return generator.get_state()[_CACHED:_END]

    def _moved(self, outputs: int) -> torch.Tensor:
        return (self._jumped if self._is_jump_cheaper(outputs) else self._drawn)(outputs)

    def _is_jump_cheaper(self, outputs: int) -> bool:
        if outputs < _WORTH_A_LOOK or not jumps():
            return False
        blocks, _ = self._distance(outputs)
        exponent = _WORDS * blocks - 1
        cost = _THE_REST
        if self._windows is None:
            cost += _SPECTRA_OF_START
        if exponent not in _spectra:
            cost += _SPECTRUM_OF_POWER
            if exponent not in _powers:
                cost += _SQUARING * max(0, exponent.bit_length() - FREE_BITS)
        return cost < _DRAWING * outputs

    def _distance(self, outputs: int) -> tuple[int, int]:
        """Return how many blocks on the state will be, and how many outputs of the last used."""
        used = _WORDS + 1 - _place_of(self._state).left
        blocks, last = divmod(used + outputs - 1, _WORDS)
        return blocks, last + 1

    def _drawn(self, outputs: int) -> torch.Tensor:
        generator = torch.Generator(_CPU)
        generator.set_state(self._state)
        _draw(generator, outputs)
        return generator.get_state()

    def _jumped(self, outputs: int) -> torch.Tensor:
        """Return what `_drawn` does; at least one block on."""
        blocks, used = self._distance(outputs)
        state = self._state.clone()
        # Of word 0 only the highest bit is part of what the recurrence repeats, so the sequence
        # begins at word 1, and one bit more than the degree is wanted.
        words = _words(self._lowest_bits(_WORDS * blocks - 1))
        state[_FIRST:_AFTER_WORDS].view(torch.int64).copy_(words)
        put_place(state, left=_WORDS + 1 - used, following=used)
        return state

    def _lowest_bits(self, exponent: int) -> int:
        """Return the lowest bits of the words from that far after word 1 on, as an int's bits."""
        windows, spectrum = self._spectra(), _spectra.get(exponent, _spectrum)
        bits = torch.empty(_BLOCKS, _BLOCK, dtype=torch.uint8, device=_CPU)
        for block in range(_BLOCKS):
            product = (windows[block : block + _BLOCKS] * spectrum).sum(0)
            counts = torch.fft.irfft(product, n=2 * _BLOCK)[:_BLOCK]
            bits[block].copy_(counts.add_(0.5).to(torch.int32).bitwise_and_(1))
        packed = bytearray(_BLOCKS * _BLOCK // 8)
        # Eight bytes of 0 or 1 become the bits of one: all meet in the highest byte of a product.
        gathered = (bits.view(-1).view(torch.int64) * 0x0102040810204080) >> 56
        torch.frombuffer(packed, dtype=torch.uint8).copy_(gathered)
        return int.from_bytes(packed, "little") & _WANTED

    def _spectra(self) -> torch.Tensor:
        """Return the spectra of the start's lowest bits, in windows that overlap by half."""
        if self._windows is None:  # two threads may both compute it, to the same end
            bits = _lowest_bits(self._state)
            windows = torch.empty(_WINDOWS, _BLOCK + 1, dtype=torch.complex64, device=_CPU)
            for number, window in enumerate(windows):
                first = number * _BLOCK
                window.copy_(torch.fft.rfft(bits[first : first + 2 * _BLOCK]))
            self._windows = windows
        return self._windows


def jumps() -> bool:
    """Return whether jumping and drawing agree on this torch; found out once per process.

    Where they do not, states are read wrongly or there is no FFT, and all distances are drawn.
    """
    if not _verdict:
        _verdict.append(_agree())
    return _verdict[0]


_verdict: list[bool] = []


def _agree() -> bool:
    try:
        with as_written():
            generator = torch.Generator(_CPU)
            start = Start(generator.manual_seed(5489).get_state())
            return torch.equal(start._jumped(10_000), start._drawn(10_000))
    except Exception:  # another layout, another build
        return False


def _draw(generator: torch.Generator, outputs: int) -> None:
    """Draw and forget, in the cheapest way that torch has: two outputs at a time."""
    if outputs < 0:
        message = f"a generator goes no {-outputs} outputs back"
        raise ValueError(message)
    pairs, odd = divmod(outputs, 2)
    buffer = torch.empty(min(_BUFFER, pairs), dtype=torch.int64, device=_CPU)
    while pairs > 0:
        buffer[:pairs].random_(generator=generator)
        pairs -= _BUFFER
    if odd:
        torch.empty(1, dtype=torch.uint8, device=_CPU).random_(generator=generator)


def _lowest_bits(state: torch.Tensor) -> torch.Tensor:
    """Return the lowest bits of the words from word 1 on, as many as all windows take."""
    start = state.clone()
    put_place(start, left=_WORDS, following=1)
    generator = torch.Generator(_CPU)
    generator.set_state(start)
    bits = torch.empty((_WINDOWS + 1) * _BLOCK, dtype=torch.float32, device=_CPU)
    for half in bits.view(2, -1):
        drawn = torch.empty(len(half), dtype=torch.int32, device=_CPU)
        # What undoes the tempering adds up seven bits of an output: 0, 7, 11, 18, 22, 25 and 29.
        drawn.random_(generator=generator).bitwise_and_(0x22440881)
        for distance in (18, 4, 7):
            drawn ^= drawn >> distance
        half.copy_(drawn.bitwise_and_(1))
    return bits


def _spectrum(exponent: int) -> torch.Tensor:
    """Return the spectra of the coefficients of t^exponent, conjugated, for a correlation."""
    coefficients = _powers.get(exponent, power)
    bits = _unpacked(bytearray(coefficients.to_bytes(_BLOCKS * _BLOCK // 8, "little")))
    blocks = bits.view(_BLOCKS, _BLOCK).to(torch.float32)
    spectra = torch.empty(_BLOCKS, _BLOCK + 1, dtype=torch.complex64, device=_CPU)
    for block, spectrum in zip(blocks, spectra, strict=True):
        spectrum.copy_(torch.fft.rfft(block, n=2 * _BLOCK))
    return torch.conj_physical(spectra)


def _words(lowest: int) -> torch.Tensor:
    """Return a block of words from the lowest bits of its own words and those that follow.

    The words' recurrence, read for single bits: bit b + 1 of a word is bit b of the word 623 on,
    plus that of the word 396 on, plus the word's own lowest one where the twist has bit b. For the
    highest bit all three are one word later, as it stays behind in the twist.
    """
    planes = [lowest]
    for bit in range(31):
        late = bit == 30
        plane = (planes[-1] >> 623 + late) ^ (planes[-1] >> 396 + late)
        planes.append(plane ^ (lowest >> late) if TWIST >> bit & 1 else plane)
    block = (1 << _WORDS) - 1
    packed = bytearray().join((plane & block).to_bytes(_WORDS // 8, "little") for plane in planes)
    bits = _unpacked(packed).view(32, _WORDS).to(torch.int64)
    return (bits << torch.arange(32, dtype=torch.int64, device=_CPU).view(32, 1)).sum(0)


def _unpacked(packed: bytearray) -> torch.Tensor:
    """Return the bits of some bytes as a row of numbers, the lowest of each byte first."""
    column = torch.frombuffer(packed, dtype=torch.uint8).view(-1, 1)
    return (column >> torch.arange(8, dtype=torch.uint8, device=_CPU)).bitwise_and_(1).view(-1)


def _place_of(state: torch.Tensor) -> Place:
    left, _, following = struct.unpack("=iiQ", bytes(state[_LEFT:_FIRST].tolist()))
    return Place(left, following, any(state[_FLAG : _FLAG + 4].tolist()))


def put_place(state: torch.Tensor, *, left: int, following: int) -> None:
    """Let a state stand elsewhere in its block."""
    state[_LEFT : _LEFT + 4].view(torch.int32).fill_(left)
    state[_NEXT:_FIRST].view(torch.int64).fill_(following)


@contextmanager
def as_written() -> Iterator[None]:
    """Run what follows as it is written, whatever modes the caller has open."""
    with torch.inference_mode(False), no_function_modes():
        guard = past_dispatch()
        try:
            yield
        finally:
            del guard
