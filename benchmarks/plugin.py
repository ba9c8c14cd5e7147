"""What the pytest plugin costs a suite that does not use it, and one that opens scopes.

Run it with ``python -m benchmarks.plugin``.
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
from benchmarks._measure import Ratio, compare, print_table
from torchcreator import _watch

PLUGIN = "torchcreator.pytest_plugin"
TESTS = 2000
SECONDS = 30.0


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


def in_processes() -> Iterator[Ratio]:
    """Yield what the plugin adds to starting pytest, collecting tests and running them."""
    yield compare(
        "import pytest and the plugin / pytest",
        process("-c", f"import pytest, {PLUGIN}"),
        process("-c", "import pytest"),
        seconds=SECONDS,
    )
    with tempfile.TemporaryDirectory() as folder:
        suite = "".join(f"def test_{number}():\n    pass\n" for number in range(TESTS))
        (Path(folder) / "test_suite.py").write_text(suite)
        for what, option in (("collect", "--collect-only"), ("run", "--quiet")):
            pytest = ("-m", "pytest", "-q", option)
            yield compare(
                f"{what} {TESTS} empty tests with the plugin / without",
                process(*pytest, "-p", PLUGIN, folder=folder),
                process(*pytest, folder=folder),
                seconds=SECONDS,
            )


def scopes() -> Ratio:
    """Return what it costs to enter and leave a scope while a test plugin watches."""

    def passing(next_creator: Any, **kwargs: Any) -> Any:
        return next_creator(**kwargs)

    scope, watched = tc.creator_scope(passing), _watch.OpenScopes()

    def plain() -> None:
        with scope:
            pass

    def noted() -> None:
        _watch.watcher = watched
        with scope:
            pass
        _watch.watcher = None

    return compare("enter and leave a scope, watched / not", noted, plain)


def main() -> None:
    """Print the table."""
    print_table([scopes(), *in_processes()])


if __name__ == "__main__":
    main()
