"""Ask the questions of a file in a process of its own, so that a crash takes no other's answers."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks._measure import Question
from benchmarks._rows import Missing, Row, from_dict
from benchmarks._run import asked

CHECKOUT = Path(__file__).parent.parent

LIMIT = 1800.0
"""Seconds after which a file that hangs is given up."""


def questions(name: str) -> Sequence[Question]:
    """Return what a file asks."""
    found: Sequence[Question] = importlib.import_module(name).QUESTIONS
    return found


def answers_of(
    name: str,
    *,
    quick: bool,
    device: str = "cpu",
    limit: float = LIMIT,
    words: Sequence[str] = (),
) -> list[Row]:
    """Return a file's rows; if its process dies, those that it had, and that the rest failed.

    Args:
        name: The module.
        quick: Whether rough figures will do.
        device: Where the questions put tensors.
        limit: Seconds after which it is given up.
        words: Only rows that contain each of these.
    """
    with tempfile.TemporaryDirectory() as folder:
        answered = Path(folder) / "rows"
        answered.touch()
        options = ["--rows", str(answered), *(["--quick"] if quick else []), *words]
        ended = _run(name, options, device, limit)
        rows = [from_dict(json.loads(line)) for line in answered.read_text().splitlines()]
    left = asked(questions(name), quick=quick, words=words)[len(rows) :]
    return rows + [Missing(one.work, one.against, ended, failed=True) for one in left]


def _run(name: str, options: list[str], device: str, limit: float) -> str:
    """Run a file, and return how its process ended."""
    try:
        run = subprocess.run(
            [sys.executable, "-m", name, *options],
            env={**os.environ, "TORCHCREATOR_BENCHMARK_DEVICE": device},
            cwd=CHECKOUT,
            timeout=limit,
            stdout=sys.stderr,  # what peers print is no part of the table
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"given up after {limit:.0f} s"
    return f"its process ended with {run.returncode}"
