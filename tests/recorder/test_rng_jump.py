"""Torch's CPU generator moved ahead: every state is the one that drawing leaves."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchcreator._recorder import rng_jump
from torchcreator._recorder.rng_jump import Place, Start, advance, after, place_of

BLOCK = 624
EDGES = [
    *range(6),
    *range(BLOCK - 2, BLOCK + 3),
    *range(2 * BLOCK - 1, 2 * BLOCK + 3),
    *range(3 * BLOCK - 2, 3 * BLOCK + 3),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def fresh():
    """Just seeded."""
    return seeded()


def used():
    """In the middle of a block."""
    return drawn(seeded(1), 100)


def at_the_end_of_a_block():
    """All of a block used, the next one not made yet."""
    return drawn(seeded(2), 2 * BLOCK)


def one_into_a_block():
    """One output of a block used."""
    return drawn(seeded(3), BLOCK + 1)


def cached():
    """With the second normal value of a pair at hand."""
    generator = seeded(4)
    torch.randn(1, generator=generator)
    return generator


def cached_in_a_later_block():
    """The same, far from the seed."""
    generator = drawn(seeded(5), 5000)
    torch.randn(5, generator=generator)
    return generator


def cached_and_spent():
    """With a pair of normal values both used."""
    generator = seeded(6)
    torch.randn(2, generator=generator)
    return generator


STATES = [
    fresh,
    used,
    at_the_end_of_a_block,
    one_into_a_block,
    cached,
    cached_in_a_later_block,
    cached_and_spent,
]
from_every_state = pytest.mark.parametrize("start", STATES, ids=lambda start: start.__name__)


def drawn(generator: torch.Generator, outputs: int) -> torch.Generator:
    """Draw so many outputs, by another operation than the one under test."""
    torch.empty(outputs, dtype=torch.int32).random_(generator=generator)
    return generator


class Jump(Start):
    """A start that never draws, unless it stays within a block."""

    def _is_jump_cheaper(self, outputs):
        return outputs >= BLOCK


@pytest.mark.parametrize("way", [Start, Jump])
@from_every_state
def test_every_distance_around_the_edges_of_a_block(start, way):
    """Drawn or jumped, the state is the one that drawing leaves, bit for bit."""
    state = start().get_state()
    ahead = way(state)
    for outputs in EDGES:
        expected = drawn(start(), outputs).get_state()
        assert torch.equal(ahead.after(outputs), expected), outputs


@from_every_state
def test_positions_in_a_block(start):
    """A jump may end anywhere in a block."""
    generator = drawn(start(), 10 * BLOCK)
    ahead = Jump(start().get_state())
    for more in range(0, BLOCK + 1, 13):
        assert torch.equal(ahead.after(10 * BLOCK + more), generator.get_state()), more
        drawn(generator, 13)


@settings(max_examples=30)
@given(st.sampled_from(STATES), st.integers(0, 4_000_000))
def test_random_distances(start, outputs):
    """Up to several million the state is the one that drawing leaves, whichever way is taken."""
    expected = drawn(start(), outputs).get_state()
    assert torch.equal(after(start().get_state(), outputs), expected)
    assert torch.equal(Jump(start().get_state()).after(outputs), expected)


HUGE = st.integers(0, 1 << 42)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(STATES), HUGE, HUGE)
def test_jumps_add_up(start, first, second):
    """After a and then b is after a + b, however far that is."""
    state = start().get_state()
    assert torch.equal(after(after(state, first), second), after(state, first + second))


@from_every_state
def test_drawing_goes_on_after_a_huge_jump(start):
    """Drawing after a jump is what jumping by as much more gives."""
    state = start().get_state()
    generator = torch.Generator("cpu")
    generator.set_state(after(state, 10**12))
    assert torch.equal(drawn(generator, 12_345).get_state(), after(state, 10**12 + 12_345))


@from_every_state
def test_a_value_at_hand_stays_or_goes(start):
    """The second normal value of a pair is kept as it is, or cleared as if it had been used."""
    state = start().get_state()
    for outputs in (0, 1, 1000, 10**7):
        kept, cleared = after(state, outputs), after(state, outputs, keep_cached=False)
        assert torch.equal(kept[5024:], state[5024:])
        assert torch.equal(kept[:5024], cleared[:5024])
        assert not cleared[5024:].any()
        assert place_of(cleared) == place_of(kept)._replace(cached=False)


@from_every_state
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_the_value_that_waits_is_made_anew(start, dtype):
    """Past normals made in pairs, the second of the last pair waits, whatever type they are of."""
    had = place_of(start().get_state()).cached
    for n in (1 + had, 5 + had, 1001 + had):
        generator = start()
        torch.empty(2 * n, dtype=dtype)[::2].normal_(3.0, 2.0, generator=generator)
        drawn(generator, 1_000_000)
        outputs = 2 * (n - had) + 2
        there = Start(start().get_state()).after(outputs + 1_000_000, pair=outputs - 4)
        assert torch.equal(there, generator.get_state())


@from_every_state
def test_a_generator_is_advanced(start):
    """`advance` leaves a generator where drawing does."""
    for outputs in (0, 1, 1000, 3_000_001):
        generator = start()
        advance(generator, outputs)
        assert torch.equal(generator.get_state(), drawn(start(), outputs).get_state())


def test_places_are_read():
    """Where a generator stands, and whether a value is at hand, is read off its state."""
    assert place_of(seeded().get_state()) == Place(left=1, next=0, cached=False)
    assert place_of(drawn(seeded(), 1).get_state()) == Place(left=624, next=1, cached=False)
    assert place_of(drawn(seeded(), BLOCK).get_state()) == Place(left=1, next=624, cached=False)
    assert place_of(cached().get_state()) == Place(left=621, next=4, cached=True)


def test_a_generator_cannot_go_back():
    """A negative distance is an error."""
    with pytest.raises(ValueError, match="no 1 outputs back"):
        after(seeded().get_state(), -1)


def test_a_start_keeps_its_state():
    """What happens to the tensor afterwards, or to a result, does not change a start."""
    state = seeded().get_state()
    ahead = Start(state)
    expected = ahead.after(5_000_000)
    state.zero_()
    ahead.after(0).zero_()
    ahead.after(5_000_000).zero_()
    assert torch.equal(ahead.after(5_000_000), expected)


def test_a_second_jump_uses_what_the_first_computed(monkeypatch):
    """Neither the power nor the spectra of the start are computed twice."""
    counts = {"_spectrum": 0, "_lowest_bits": 0}
    for name in counts:
        function = getattr(rng_jump, name)

        def counted(value, name=name, function=function):
            counts[name] += 1
            return function(value)

        monkeypatch.setattr(rng_jump, name, counted)
    first, second = Start(used().get_state()), Start(drawn(used(), 1).get_state())
    distance = random.Random(7).randrange(10**9, 10**10) // BLOCK * BLOCK
    for start in (first, first, second, first):
        start.after(distance)
    assert counts == {"_spectrum": 1, "_lowest_bits": 2}
