"""The demo's processes: what they tell arrives, and none outlives its end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from torchcreator._cli.demo.ranks import RankError, started

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def add_up(place):
    value = torch.tensor(place.rank + 1)
    dist.all_reduce(value)
    place.tell((place.world_size, int(value), os.getpid()))


def wait_for_ever(place):
    place.tell(os.getpid())
    while True:
        time.sleep(0.05)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("world_size", [1, 3])
def test_ranks_meet_and_tell(world_size):
    """Every rank joins the group, and what it tells arrives with its number."""
    with started(add_up, world_size=world_size, fork=True) as told:
        messages = dict(told)
    total = sum(range(1, world_size + 1))
    assert sorted(messages) == list(range(world_size))
    assert {message[:2] for message in messages.values()} == {(world_size, total)}
    assert not any(is_alive(pid) for _, _, pid in messages.values())


def test_spawned_ranks_meet_and_tell():
    """Where a fork is not safe the ranks are spawned, and work the same."""
    with started(add_up, world_size=1, fork=False) as told:
        assert [message[:2] for _, message in told] == [(1, 1)]


def test_an_exception_ends_every_rank():
    """An exception in the parent, such as Ctrl-C, leaves no rank behind."""
    pids = []

    def interrupted():
        with started(wait_for_ever, world_size=2, fork=True) as told:
            pids.extend([next(told)[1], next(told)[1]])
            message = "Ctrl-C"
            raise KeyboardInterrupt(message)

    with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
        interrupted()
    assert len(set(pids)) == 2
    assert not any(map(is_alive, pids))


def test_a_rank_that_will_not_end_is_killed(monkeypatch):
    """A rank that ignores the request to end is killed after the grace."""

    def stubborn(place):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        wait_for_ever(place)

    monkeypatch.setattr("torchcreator._cli.demo.ranks.GRACE", 0.2)
    with started(stubborn, world_size=1, fork=True) as told:
        _, pid = next(told)
    assert not is_alive(pid)


def test_a_rank_that_raises_is_named_with_its_traceback():
    """An exception in one rank ends all, and says which rank and where."""

    def fail(place):
        place.tell(os.getpid())
        if place.rank == 1:
            message = "broken on purpose"
            raise ValueError(message)
        wait_for_ever(place)

    pids = []
    with (
        pytest.raises(RankError, match=r"(?s)rank 1 failed.*in fail.*broken on purpose"),
        started(fail, world_size=2, fork=True) as told,
    ):
        pids += [message for _, message in told if isinstance(message, int)]
    assert not any(map(is_alive, pids))


def test_a_rank_that_dies_is_named():
    """A rank that is killed from outside is reported with its exit code."""

    def die(place):
        os.kill(os.getpid(), signal.SIGKILL)

    with (
        pytest.raises(RankError, match="rank 0 ended with exit code -9"),
        started(die, world_size=1, fork=True) as told,
    ):
        list(told)


def test_ranks_end_when_their_parent_is_killed():
    """Even SIGKILL of the process that started them leaves no rank behind."""
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        with started(wait_for_ever, world_size=2, fork=True) as told:
            os.write(write, f"{next(told)[1]} {next(told)[1]}".encode())
            time.sleep(60)
        os._exit(0)
    pids = [int(word) for word in os.read(read, 100).split()]
    assert len(pids) == 2
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert ended_within(60, pids)


def ended_within(seconds, pids):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(is_running(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def is_running(pid):
    """An orphan that nobody waited for is a zombie, which is ended all the same."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
