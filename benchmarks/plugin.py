"""What importing the package, and having its pytest plugin, costs: ``python -m benchmarks.plugin``.

Each sample is a process of its own, with no other plugin.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torchcreator as tc
from benchmarks._measure import Pair, Question, question
from benchmarks._run import main
from torchcreator._chain import observers
from torchcreator.pytest_plugin._open_scopes import OpenScopes

PLUGIN = "torchcreator.pytest_plugin"
TESTS = 2000
SECONDS = 12.0


def process(*arguments: str, folder: str = ".") -> Callable[[], object]:
    """Return a function that runs Python in a process of its own, with no other plugin."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment["PYTHONPATH"] = str(Path(tc.__file__).parent.parent)
    # As users have it: compiled files are written at the first run and read at the others.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, *arguments]

    def run() -> object:
        return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)

    return run


def importing(ours: str, theirs: str) -> Question:
    """Return the question what one import takes, beside another."""

    def pair() -> Iterator[Pair]:
        yield process("-c", ours), process("-c", theirs)

    return question(f"`{ours}`", against=f"`{theirs}`", seconds=SECONDS, takes=2, threads=None)(
        pair
    )


def suite(what: str, option: str) -> Question:
    """Return the question what the plugin adds to a suite that does not use it."""

    def pair() -> Iterator[Pair]:
        with tempfile.TemporaryDirectory() as folder:
            tests = "".join(f"def test_{number}():\n    pass\n" for number in range(TESTS))
            (Path(folder) / "test_suite.py").write_text(tests)
            pytest = ("-m", "pytest", "-q", option)
            yield process(*pytest, "-p", PLUGIN, folder=folder), process(*pytest, folder=folder)

    return question(
        f"{what} {TESTS:,} empty tests with the plugin",
        against="without",
        seconds=SECONDS,
        takes=2,
        threads=None,
    )(pair)


@question("entering and leaving a scope while the plugin watches", against="without a plugin")
def watched() -> Iterator[Pair]:
    """Time a scope while a test plugin watches."""

    def passing(next_creator: Any, **kwargs: Any) -> Any:
        return next_creator(**kwargs)

    scope, scopes = tc.creator_scope(passing), OpenScopes()

    def plain() -> None:
        with scope:
            pass

    def noted() -> None:
        observers.watcher = scopes
        with scope:
            pass
        observers.watcher = None

    yield noted, plain


QUESTIONS = [
    importing("import torchcreator", "pass"),
    importing("import torchcreator; torchcreator.variable", "import torch"),
    importing(f"import pytest, {PLUGIN}", "import pytest"),
    suite("collecting", "--collect-only"),
    suite("running", "--quiet"),
    watched,
]

if __name__ == "__main__":
    main(QUESTIONS)
