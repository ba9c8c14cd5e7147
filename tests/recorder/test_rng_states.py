"""How far one state of a generator is after another: by looking ahead, as far as is asked for."""

from __future__ import annotations

import pytest
import torch

from torchcreator._recorder.rng_states import distance, raw_of

BLOCK = 624
USED = [0, 1, 100, BLOCK - 1, BLOCK, BLOCK + 1]
ON = [0, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK + 7, 300 * BLOCK, 1000 * BLOCK + 3]


def used(outputs, seed=3):
    generator = torch.Generator().manual_seed(seed)
    torch.empty(outputs, dtype=torch.uint8).random_(generator=generator)
    return generator.get_state()


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("start", USED)
def test_as_many_as_were_drawn(start, on):
    """From everywhere in a block to everywhere in a later one."""
    before, after = used(start), raw_of(used(start + on))
    assert distance(before, after, 1001) == on


@pytest.mark.parametrize("start", USED)
def test_nothing_is_found_behind(start):
    """A state is not found that comes before, or belongs to another seed."""
    assert distance(used(start + 5), raw_of(used(start)), 20) is None
    assert distance(used(start), raw_of(used(start, seed=4)), 20) is None


def test_no_further_than_asked_for():
    """Of blocks that are looked at, the first is the one after that of the state."""
    after = raw_of(used(10 * BLOCK + 5))
    assert distance(used(5), after, 10) == 10 * BLOCK
    assert distance(used(5), after, 9) is None
    assert distance(used(5), after, 0) is None


def test_a_waiting_normal_value_does_not_matter():
    """It is told apart by `mark`: where the outputs are the same, so is the place."""
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    torch.randn(1, generator=generator)
    assert distance(before, raw_of(generator.get_state()), 3) == 2 * 2
