"""A dispatch mode of our own sits beside the user's, and leaves theirs as they were."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from torchcreator._torch import mode_stack
from torchcreator._torch.dispatch import dispatch_modes, dispatch_stack_depth, pop_dispatch_mode


class Own(mode_stack.OwnMode):
    """One of ours."""

    def __init__(self, log=None):
        super().__init__()
        self.log = log

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self.log is not None:
            self.log.append("own")
        return func(*args, **(kwargs or {}))


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
    own = Own()
    with Theirs("a"):
        mode_stack.insert(own, 0)
        with Theirs("b"):
            assert mode_stack.depth() == 2
            assert dispatch_stack_depth() == 3
        mode_stack.remove(own)
    assert mode_stack.depth() == 0


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_mode_is_inserted_above_the_modes_that_were_there(depth):
    """It comes directly above the ``depth`` outermost modes of others, below the rest."""
    own, a, b = Own(), Theirs("a"), Theirs("b")
    with a, b:
        mode_stack.insert(own, depth)
        expected = [a, b]
        expected.insert(depth, own)
        assert stack() == expected
        mode_stack.remove(own)
        assert stack() == [a, b]


def test_of_two_of_ours_the_later_is_the_inner():
    """Modes of ours at one depth stand in the order in which they came."""
    first, second, a, b = Own(), Own(), Theirs("a"), Theirs("b")
    with a, b:
        mode_stack.insert(first, 1)
        mode_stack.insert(second, 1)
        assert stack() == [a, first, second, b]
        mode_stack.remove(first)
        assert stack() == [a, second, b]
        mode_stack.remove(second)


def test_a_user_may_close_his_mode_first():
    """A mode opened after the scope closes undisturbed, ours below it stays."""
    own, a = Own(), Theirs("a")
    with a:
        mode_stack.insert(own, 0)
    assert stack() == [own]
    mode_stack.remove(own)


def test_removing_twice_removes_once():
    """A mode that is not there is left alone."""
    own, a = Own(), Theirs("a")
    with a:
        mode_stack.insert(own, 1)
        mode_stack.remove(own)
        mode_stack.remove(own)
        assert stack() == [a]


def test_operations_pass_the_modes_innermost_first():
    """An operation passes a user's inner mode, ours, then his outer one."""
    log = []
    own = Own(log)
    with Theirs("outer", log), Theirs("inner", log):
        mode_stack.insert(own, 1)
        torch.zeros(1).add_(1)
        mode_stack.remove(own)
    assert log[:3] == ["inner", "own", "outer"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_modes_are_removed_in_any_order(order):
    """Our modes leave in any order, and the user's stay in theirs."""
    own = [Own() for _ in range(3)]
    a, b = Theirs("a"), Theirs("b")
    with a, b:
        for depth, mode in enumerate(own):
            mode_stack.insert(mode, depth)
        for index in order:
            mode_stack.remove(own[index])
            assert [mode for mode in stack() if isinstance(mode, Theirs)] == [a, b]
        assert stack() == [a, b]


LEFT_BEHIND = """
import threading, weakref
from tests.torch.test_mode_stack import Own, dispatch_modes, mode_stack

first, second = Own(), Own()
freed = weakref.ref(first)
mode_stack.insert(first, 0)
thread = threading.Thread(target=mode_stack.remove, args=(first,))
thread.start()
thread.join()
del thread, first
assert freed() is not None, "only the stack holds it"
mode_stack.insert(second, 0)
assert freed() is None
assert dispatch_modes() == [second]
mode_stack.remove(second)
"""


def test_a_mode_that_only_the_stack_holds_is_taken_off_it_whole():
    """A mode removed by another thread leaves at the next insertion, and is not freed before."""
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
