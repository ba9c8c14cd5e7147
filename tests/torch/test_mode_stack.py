"""A dispatch mode of our own sits beside the user's, and leaves theirs as they were."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from torchcreator._torch import mode_stack
from torchcreator._torch.dispatch import dispatch_modes, dispatch_stack_depth, pop_dispatch_mode


class Own(mode_stack.OwnMode):
    """One of ours."""

    def __init__(self):
        super().__init__()
        self.log = None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self.log is not None:
            self.log.append("own")
        return func(*args, **(kwargs or {}))


class Another(Own):
    """One of ours, of another kind."""


class Theirs(TorchDispatchMode):
    """One of a user's."""

    def __init__(self, name, log=None):
        super().__init__()
        self.name = name
        self.log = log

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self.log is not None:
            self.log.append(self.name)
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def empty_stack():
    """Start without modes, and fail where a test leaves one."""
    assert dispatch_stack_depth() == 0
    yield
    left = dispatch_stack_depth()
    for _ in range(left):
        pop_dispatch_mode()
    assert left == 0


def stack():
    """Return the active modes, outermost first."""
    return dispatch_modes()


def test_depth_counts_the_modes_of_others():
    """`depth` leaves our own modes out, wherever they are."""
    assert mode_stack.depth() == 0
    with Theirs("a"):
        own = mode_stack.share(Own, 0)
        with Theirs("b"):
            assert mode_stack.depth() == 2
            assert dispatch_stack_depth() == 3
        mode_stack.leave(own)
    assert mode_stack.depth() == 0


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_mode_is_inserted_above_the_modes_that_were_there(depth):
    """It comes directly above the ``depth`` outermost modes of others, below the rest."""
    a, b = Theirs("a"), Theirs("b")
    with a, b:
        own = mode_stack.share(Own, depth)
        expected = [a, b]
        expected.insert(depth, own)
        assert stack() == expected
        mode_stack.leave(own)
        assert stack() == [a, b]


def test_of_two_kinds_of_ours_the_later_is_the_inner():
    """Modes of ours of two kinds at one depth stand in the order in which they came."""
    a, b = Theirs("a"), Theirs("b")
    with a, b:
        first, second = mode_stack.share(Own, 1), mode_stack.share(Another, 1)
        assert stack() == [a, first, second, b]
        mode_stack.leave(first)
        assert stack() == [a, second, b]
        mode_stack.leave(second)


def test_a_user_may_close_his_mode_first():
    """A mode opened after the scope closes undisturbed, ours below it stays."""
    with Theirs("a"):
        own = mode_stack.share(Own, 0)
    assert stack() == [own]
    mode_stack.leave(own)


def test_those_of_one_depth_share_a_mode():
    """However many ask, there is one mode of a kind at a depth, until the last has left."""
    a = Theirs("a")
    with a:
        own = [mode_stack.share(Own, 1) for _ in range(3)]
        below = mode_stack.share(Own, 0)
        assert own == [own[0]] * 3
        assert stack() == [below, a, own[0]]
        for mode in own:
            assert stack() == [below, a, own[0]]
            mode_stack.leave(mode)
        assert stack() == [below, a]
        mode_stack.leave(below)
        assert stack() == [a]


def test_a_mode_left_by_another_thread_is_not_shared():
    """A thread changes its own stack only; what another one left is replaced, and gone."""
    own = mode_stack.share(Own, 0)
    thread = threading.Thread(target=mode_stack.leave, args=(own,))
    thread.start()
    thread.join()
    assert stack() == [own]
    other = mode_stack.share(Own, 0)
    assert other is not own
    assert stack() == [other]
    mode_stack.leave(other)
    assert stack() == []


def test_operations_pass_the_modes_innermost_first():
    """An operation passes a user's inner mode, ours, then his outer one."""
    log = []
    with Theirs("outer", log), Theirs("inner", log):
        own = mode_stack.share(Own, 1)
        own.log = log
        torch.zeros(1).add_(1)
        mode_stack.leave(own)
    assert log[:3] == ["inner", "own", "outer"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_modes_are_removed_in_any_order(order):
    """Our modes leave in any order, and the user's stay in theirs."""
    a, b = Theirs("a"), Theirs("b")
    with a, b:
        own = [mode_stack.share(Own, depth) for depth in range(3)]
        for index in order:
            mode_stack.leave(own[index])
            assert [mode for mode in stack() if isinstance(mode, Theirs)] == [a, b]
        assert stack() == [a, b]


LEFT_BEHIND = """
import threading, weakref
from tests.torch.test_mode_stack import Own, dispatch_modes, mode_stack

first = mode_stack.share(Own, 0)
freed = weakref.ref(first)
thread = threading.Thread(target=mode_stack.leave, args=(first,))
thread.start()
thread.join()
del thread, first
assert freed() is not None, "only the stack holds it"
second = mode_stack.share(Own, 0)
assert freed() is None
assert dispatch_modes() == [second]
mode_stack.leave(second)
"""


def test_a_mode_that_only_the_stack_holds_is_taken_off_it_whole():
    """A mode removed by another thread leaves when one is next shared, and is not freed before."""
    debugging = {**os.environ, "PYTHONMALLOC": "debug"}  # what is used after it was freed crashes
    done = subprocess.run(
        [sys.executable, "-c", LEFT_BEHIND],
        cwd=Path(__file__).parents[2],
        env=debugging,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
