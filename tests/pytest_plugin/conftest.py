"""Run small suites with the plugin, inside this one."""

from __future__ import annotations

import textwrap

import pytest
import torch._dynamo  # noqa: F401  torch loads it for the hook of optimizers

import torchcreator.testing  # noqa: F401

# What a run inside this one imports is gone from sys.modules after it, and torch and torchcreator
# cannot be loaded twice in a process: so they are here before.

OURS = ["-p", "torchcreator.pytest_plugin", "-p", "no:cacheprovider"]

PREAMBLE = """
import pytest
import torch
import torchcreator as tc
from torch import nn

def frozen(next_creator, **kwargs):
    return next_creator(**{**kwargs, "trainable": False})

asked = []

def noting(word):
    def creator(next_creator, **kwargs):
        asked.append(word)
        return next_creator(**kwargs)

    return creator

def is_frozen():
    return not nn.Linear(1, 1).weight.requires_grad
"""


class Suite:
    """A suite of one file, test_suite.py, that can be run."""

    def __init__(self, pytester):
        self.pytester = pytester
        self.lines = []

    def write(self, source, *, ini=""):
        """Write the tests, and the lines of the configuration file."""
        text = PREAMBLE + textwrap.dedent(source)
        self.lines = text.strip().splitlines()
        self.pytester.makepyfile(test_suite=text)
        if ini:
            self.pytester.makeini("[pytest]\n" + textwrap.dedent(ini))
        return self

    def run(self, *args):
        """Run it in this process, with no other plugin than ours."""
        return self.pytester.runpytest_inprocess(*OURS, *args)

    def line(self, comment):
        """Return the number of the line that ends with a comment."""
        [number] = [n for n, line in enumerate(self.lines, 1) if line.endswith(f"# {comment}")]
        return number


@pytest.fixture
def suite(pytester, monkeypatch):
    """A suite to write and to run."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return Suite(pytester)
