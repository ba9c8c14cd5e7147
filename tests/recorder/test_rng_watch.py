"""The default generator belongs to the process: what builds leave of it, and to other threads."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.build.same import assert_builds_same, assert_same_model
from tests.build.torture import STARTS
from tests.recorder.seeding import OWN

SEEDS = pytest.mark.parametrize("seed", [None, 0], ids=["exact", "seeded"])


class Layers(nn.Module):
    """Layers that are initialised twice, with steps between them that a test may look into."""

    def __init__(self, count=20, width=32, between=lambda: None):
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(count):
            layer = nn.Linear(width, width)
            between()
            nn.init.uniform_(layer.weight)
            self.layers.append(layer)


@contextmanager
def drawing(numbers, pause=0.0002):
    """Draw in another thread, one number after the other."""
    stop = threading.Event()

    def draw():
        while not stop.is_set():
            numbers.append(torch.rand(1, dtype=torch.float64).item())
            time.sleep(pause)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def deferred(*args, **kwargs):
    return tc.materialize(tc.defer(*args, **kwargs))


@SEEDS
@pytest.mark.parametrize("way", [tc.build, deferred], ids=["built", "deferred"])
def test_no_number_twice(seed, way):
    """A thread that draws while models are built never gets a number twice."""
    numbers: list[float] = []
    with drawing(numbers):
        for _ in range(4):
            way(Layers, 150, 32, seed=seed)
    assert len(numbers) > 10
    assert len(set(numbers)) == len(numbers)


@SEEDS
def test_no_number_twice_if_the_constructor_fails(seed):
    """That holds, too, where a constructor raises half way."""

    def fail():
        if len(numbers) > before + 5:
            message = "half way"
            raise RuntimeError(message)

    numbers: list[float] = []
    with drawing(numbers, pause=0.0):
        for _ in range(5):
            before = len(numbers)
            with pytest.raises(RuntimeError, match="half way"):
                tc.build(Layers, 10_000, 4, fail, seed=seed)
    assert len(set(numbers)) == len(numbers)


def test_generator_goes_on_from_where_others_left_it():
    """What others drew while a model was built is not undone: it comes on top."""
    taken = 6 * 2

    def others():
        thread = threading.Thread(target=lambda: torch.rand(6, dtype=torch.float64))
        thread.start()
        thread.join()

    once = iter([others])
    torch.manual_seed(0)
    Layers()
    torch.rand(taken)
    expected = torch.get_rng_state()
    torch.manual_seed(0)
    tc.build(Layers, between=lambda: next(once, lambda: None)())
    assert torch.equal(torch.get_rng_state(), expected)


@pytest.mark.parametrize("width", [16, 700], ids=["drawn", "jumped"])
def test_two_builds_at_once(width):
    """Two builds whose constructors take turns leave the generator where two plain ones would."""
    torch.manual_seed(0)
    for _ in range(2):
        Layers(8, width)
    expected = torch.get_rng_state()
    turns = threading.Barrier(2, timeout=60)
    torch.manual_seed(0)
    threads = [
        threading.Thread(target=tc.build, args=(Layers, 8, width, turns.wait)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(torch.get_rng_state(), expected)


def test_one_build_ends_while_another_records():
    """A build that ends inside of another's constructor is accounted for by both."""
    torch.manual_seed(0)
    Layers(8, 64)
    Layers(8, 700)
    expected = torch.get_rng_state()
    built = []

    def another():
        thread = threading.Thread(target=lambda: built.append(tc.build(Layers, 8, 700)))
        thread.start()
        thread.join()

    once = iter([another])
    torch.manual_seed(0)
    tc.build(Layers, 8, 64, lambda: next(once, lambda: None)())
    assert built
    assert torch.equal(torch.get_rng_state(), expected)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("own", OWN)
def test_what_a_constructor_does_to_the_generator(own, start):
    """Seeding, saving, setting and forking it act as in plain construction."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            OWN[own](self)

    STARTS[start]()
    plain, after = Own(), torch.get_rng_state()
    STARTS[start]()
    assert_same_model(tc.build(Own), plain)
    assert torch.equal(torch.get_rng_state(), after)
    assert_builds_same(Own)


def test_initial_seed():
    """A constructor that asks for the seed is told the caller's."""

    def factory():
        layer = nn.Linear(2, 2)
        seeds.append(torch.initial_seed())
        return layer

    seeds: list[int] = []
    torch.manual_seed(77)
    tc.build(factory)
    assert seeds == [77]
    assert torch.initial_seed() == 77


def test_creators_draw_after_the_constructor():
    """What creators draw is what an initialisation after plain construction would draw."""

    def redrawn(next_creator, **kwargs):
        if kwargs["name"].endswith("weight"):
            kwargs["initial_value"] = nn.init.uniform_(torch.empty(kwargs["shape"]))
        return next_creator(**kwargs)

    torch.manual_seed(0)
    plain = Layers(3)
    for layer in plain.layers:
        nn.init.uniform_(layer.weight)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    with tc.creator_scope(redrawn):
        built = tc.build(Layers, 3)
    assert_same_model(built, plain)
    assert torch.equal(torch.get_rng_state(), after)


def test_a_creator_that_seeds():
    """A seed that a creator sets stays set."""

    def seeded(next_creator, **kwargs):
        torch.manual_seed(5)
        return next_creator(**kwargs)

    with tc.creator_scope(seeded):
        tc.build(Layers, 2)
    assert torch.equal(torch.get_rng_state(), torch.Generator().manual_seed(5).get_state())


def test_generators_of_the_constructor_in_seeded_builds():
    """A seeded build leaves the generator as it was, whatever the constructor did to it."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for function in OWN.values():

        class Own(nn.Module):
            def __init__(self, function=function):
                super().__init__()
                function(self)

        tc.build(Own, seed=0)
        assert torch.equal(torch.get_rng_state(), before)


def test_threads_of_the_constructor_take_their_own_numbers():
    """What a constructor's own thread draws differs from every other number of that thread."""
    numbers: list[float] = []

    def another():
        thread = threading.Thread(
            target=lambda: numbers.extend(torch.rand(3, dtype=torch.float64).tolist())
        )
        thread.start()
        thread.join()

    for _ in itertools.repeat(None, 3):
        tc.build(Layers, 5, 8, another)
    assert len(set(numbers)) == len(numbers) == 3 * 5 * 3
