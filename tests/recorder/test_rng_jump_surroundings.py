"""What else is open, missing or at work while a generator is moved ahead."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.recorder.drawing import RefusingFunctions, RefusingOperations
from tests.recorder.test_rng_jump import drawn, used
from torchcreator._recorder import rng_jump
from torchcreator._recorder.rng_jump import Start, advance, after, place_of

BLOCK = 624


class float64_by_default:
    def __enter__(self):
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *_):
        torch.set_default_dtype(torch.float32)


class deterministic:
    def __enter__(self):
        torch.use_deterministic_algorithms(True)

    def __exit__(self, *_):
        torch.use_deterministic_algorithms(False)


SURROUNDINGS = {
    "float64 by default": float64_by_default,
    "deterministic": deterministic,
    "meta by default": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "function mode": RefusingFunctions,
    "dispatch mode": RefusingOperations,
}


@pytest.mark.parametrize("surroundings", SURROUNDINGS.values(), ids=SURROUNDINGS.keys())
def test_what_the_caller_has_open_plays_no_part(surroundings, monkeypatch):
    """Under any mode, device or dtype by default a jump is the same, and its result usable."""
    state, expected = used().get_state(), after(used().get_state(), 10**10)
    for name in ("_powers", "_spectra"):  # to be made anew, under the mode
        monkeypatch.setattr(rng_jump, name, rng_jump.Recent(8))
    near = drawn(used(), 1001).get_state()
    generator = used()
    with surroundings():
        start = Start(state)
        far, close, place = start.after(10**10), start.after(1001), place_of(state)
        advance(generator, 1001)
    assert torch.equal(far, expected)
    assert torch.equal(close, near)
    assert torch.equal(generator.get_state(), near)
    assert place == place_of(state)
    assert not far.is_inference()
    assert torch.equal(after(state, 10**10), expected)  # what was kept meanwhile serves outside


def test_an_inference_tensor_may_be_the_state():
    """A state that was read in inference mode is one like any other."""
    expected = after(used().get_state(), 10**9)
    with torch.inference_mode():
        state = used().get_state().clone()
    assert torch.equal(after(state, 10**9), expected)


def test_the_default_generator_is_left_alone():
    """Neither a jump nor drawing reads or moves the default generator."""
    before = torch.get_rng_state()
    after(used().get_state(), 10**9)
    after(used().get_state(), 1000)
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_share_a_start():
    """Many threads may jump from one start, and from many, at once."""
    start, distances = Start(used().get_state()), [10**7 + 1234 * n for n in range(24)]
    expected = [Start(used().get_state()).after(distance) for distance in distances]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(start.after, distances))
        found += pool.map(lambda n: after(used().get_state(), n), distances)
    assert all(map(torch.equal, found, expected * 2))


def test_where_jumps_are_wrong_all_is_drawn(monkeypatch):
    """On a torch whose FFT or generator is another, a state is still right, though slowly."""
    monkeypatch.setattr(rng_jump, "_verdict", [])
    monkeypatch.setattr(rng_jump, "_words", lambda lowest: torch.zeros(BLOCK, dtype=torch.int64))
    assert not rng_jump.jumps()
    expected = drawn(used(), 5_000_000).get_state()
    assert torch.equal(after(used().get_state(), 5_000_000), expected)


def test_where_jumps_fail_all_is_drawn(monkeypatch):
    """The same where torch was built without an FFT."""

    def absent(*_):
        raise RuntimeError

    monkeypatch.setattr(rng_jump, "_verdict", [])
    monkeypatch.setattr(rng_jump, "_spectrum", absent)
    monkeypatch.setattr(rng_jump, "_spectra", rng_jump.Recent(8))
    assert not rng_jump.jumps()
    expected = drawn(used(), 5_000_000).get_state()
    assert torch.equal(after(used().get_state(), 5_000_000), expected)


def test_jumps_are_right_on_this_torch():
    """On the torch that is installed jumps and drawing agree."""
    assert rng_jump.jumps()


ALONE = """
import os, torch
torch.set_num_threads(4)
from torchcreator._recorder.rng_jump import Start, after, jumps
before = len(os.listdir("/proc/self/task"))
start = Start(torch.Generator().get_state())
for distance in (1000, 10**6, 10**9, 10**12):
    start.after(distance)
assert jumps()
print(before, len(os.listdir("/proc/self/task")))
torch.zeros(100_000).add_(1.0)
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_a_jump_stays_in_its_thread():
    """No operation of a jump is large enough for torch to hand a part of it to other threads."""
    output = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, check=True
    ).stdout
    before, behind, control = map(int, output.split())
    assert behind == before
    assert control > before
