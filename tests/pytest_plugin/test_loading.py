"""What the plugin costs a suite that does not use it: next to nothing, and never torch."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution

import pytest

import torchcreator.pytest_plugin

PLUGIN = torchcreator.pytest_plugin.__name__


def test_loading_does_not_import_torch(pytester, monkeypatch):
    """Importing the plugin, and running a suite that leaves it alone, does without torch."""
    pytester.makepyfile(
        """
        import sys

        def test_without_torch():
            assert "torchcreator.pytest_plugin" in sys.modules
            assert not {"torch", "numpy", "torchcreator._api"} & set(sys.modules)
        """
    )
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.runpytest_subprocess("-p", PLUGIN).assert_outcomes(passed=1)


def test_importing_needs_little():
    """Beside pytest, the plugin loads a dozen of our modules at most, and no other package."""
    code = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        f"import {PLUGIN}\n"
        "print(*sorted(set(sys.modules) - before - sys.stdlib_module_names))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    loaded = done.stdout.split()
    assert {name.partition(".")[0] for name in loaded} == {"torchcreator"}
    assert len(loaded) <= 12


def test_the_installed_package_registers_it(pytester):
    """Where the package is installed, pytest finds the plugin by its entry point alone."""
    try:
        found = distribution("torchcreator").entry_points.select(group="pytest11")
    except ModuleNotFoundError:
        pytest.skip("torchcreator is on the path, not installed")
    assert [(point.name, point.value) for point in found] == [(PLUGIN, PLUGIN)]
    pytester.makepyfile("def test(creator_scopes): pass")
    blocked = pytester.runpytest_subprocess("-p", f"no:{PLUGIN}")
    blocked.stdout.fnmatch_lines(["*fixture 'creator_scopes' not found*"])
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
