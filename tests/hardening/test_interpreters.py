"""What comes out does not depend on how Python was started."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("everything.py")
ROOT = Path(__file__).parents[2]


def python(*arguments, **settings):
    """Run Python with variables of the environment set, and return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **settings}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="replace")


@functools.cache
def plain():
    """What everything.py prints when nothing is set."""
    return python(SCRIPT, PYTHONHASHSEED="0")


def test_the_script_says_something():
    """What the settings below are compared by is there: names, values, buckets and refusals."""
    words = [line.split()[0] for line in plain().splitlines()]
    assert words.count("refused") == 6
    assert {"names", "values", "ledger", "rows", "buckets", "copies", "done"} <= set(words)


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        ((), {"PYTHONHASHSEED": "1"}),
        (("-OO", "-W", "error"), {}),
        (("-X", "dev", "-W", "error"), {"PYTHONUTF8": "0", "LC_ALL": "C"}),
    ],
    ids=[
        "another hash seed",
        "without assertions and docstrings, where warnings are errors",
        "development mode, in a locale of ASCII",
    ],
)
def test_the_same_comes_out(flags, settings):
    """Names, order, values, buckets, copies and messages are the same under each setting."""
    assert python(*flags, SCRIPT, **settings) == plain()


def test_the_command_prints_on_any_terminal():
    """Where a terminal knows ASCII only, the command prints what it can and never fails to."""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    printed = python("-m", "torchcreator", "inspect", "torch.nn:Linear", "[2, 3]", **ascii_only)
    assert "weight" in printed
