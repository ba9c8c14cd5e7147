"""Bars show how far a build is, when it takes a while, and only to somebody who looks."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from torchcreator._build import progress

BUILD = """
import sys, threading, time
from torch import nn
import torchcreator as tc

def slow(next_creator, **kwargs):
    time.sleep({pause})
    return next_creator(**kwargs)

if {absent}:
    sys.modules.update(dict.fromkeys({absent}))
with tc.creator_scope(slow):
    {call}
print(threading.active_count())
"""

BUILDING = "tc.build(lambda: nn.Sequential(*(nn.Linear(2, 2) for _ in range(4))))"
DEFERRED = "tc.materialize(tc.defer(lambda: nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))))"


def run(call=BUILDING, *, pause=0.25, absent=(), terminal=True):
    """Run a build; return what it printed, and what standard error showed."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    if terminal:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    code = BUILD.format(call=call, pause=pause, absent=tuple(absent))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, text=True
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            read = os.read(ours, 1 << 16)
        except OSError:  # the other end of a terminal is closed
            break
        if not read:
            break
        shown += read
    os.close(ours)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, shown.decode()
    return printed.split(), re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())


@pytest.mark.parametrize("call", [BUILDING, DEFERRED], ids=["build", "materialize"])
def test_a_long_build_shows_how_far_it_is(call):
    """After a second there is a bar on the terminal, it gets to its end, and no thread stays."""
    printed, shown = run(call)
    assert re.search(r"asking the creators: 100%.* 8/8", shown)
    assert printed == ["1"]


def test_without_tqdm_there_is_silence():
    """It is not needed."""
    _, shown = run(absent=["tqdm"])
    assert shown == ""


def test_a_short_build_is_silent():
    """Less than a second is not worth a bar."""
    assert run(pause=0) == (["1"], "")


def test_a_log_file_gets_no_bar():
    """Where standard error is no terminal, nothing is shown."""
    assert run(terminal=False) == (["1"], "")


class Terminal(io.StringIO):
    """Stands for a standard error that is a terminal."""

    def isatty(self):
        return True


def test_a_bar_is_closed_by_an_error(monkeypatch):
    """What goes wrong leaves the bar where it was, and the next one begins anew."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "PATIENCE", 0.0)

    def fail():
        with progress.bar("failing", 3) as advance:
            advance()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert "failing:  33%" in sys.stderr.getvalue()
    with progress.bar("counting", 3) as advance:
        for _ in range(3):
            advance()
    assert re.search(r"\rcounting: 100%.* 3/3 .*\n$", sys.stderr.getvalue())
    assert "\x1b[A" not in sys.stderr.getvalue()  # on a line of its own, below no other


def test_nobody_looks_where_there_is_no_standard_error(monkeypatch):
    """A process without one, or with a closed one, is asked without an error."""
    monkeypatch.setattr(sys, "stderr", None)
    assert not progress.is_seen()
    with open(os.devnull) as closed:  # noqa: PTH123
        pass
    monkeypatch.setattr(sys, "stderr", closed)
    assert not progress.is_seen()


def test_only_the_first_rank_shows_a_bar(monkeypatch):
    """Several processes on one terminal would overwrite each other's."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert progress.is_seen()
    monkeypatch.setattr(progress.dist, "is_initialized", lambda: True)
    for rank in (0, 1):
        monkeypatch.setattr(progress.dist, "get_rank", lambda rank=rank: rank)
        assert progress.is_seen() is (rank == 0)
