"""What holds for every test.

``TORCHCREATOR_TESTS=frozen`` runs each test with all that was there before it out of the garbage
collector's sight, and ``TORCHCREATOR_TESTS=traced`` under a tracer that reads variables: Python
shows and counts less, or more, of what refers to an object then.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.support.heap import all_in_sight
from tests.support.tracing import reading

# Inductor's pool of compilers does not survive a fork: a rank would wait for it for ever.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

collect_ignore = ["typing"]  # read by mypy in test_typing.py, never run
pytest_plugins = ["pytester", "torchcreator.pytest_plugin"]  # ours, where it is not installed

settings.register_profile(
    "unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")  # how busy a machine is makes no test fail

TESTS = Path(__file__).parent
CORE = (
    *("access/", "build/", "chain/", "constraints/", "modules/", "recorder/", "spec/", "torch/"),
    *("optim/test_steps", "distributed/test_aggregate_gradients", "distributed/test_data_parallel"),
)
"""What tells in three minutes whether a version of torch serves; paths that begin so are `core`."""
NOT_CORE = ("build/test_memory", "build/test_progress")
"""A process for each measurement, or a build that lasts longer than a second."""

SLOW = (
    *("report/browser/", "report/test_notebook", "docs/test_examples", "docs/test_quickstart"),
    *(
        "docs/site/",
        "hardening/test_interpreters",
        "build/test_progress",
        "pytest_plugin/test_example",
    ),
)
"""Browsers, notebooks, programs and other interpreters, which start anew for each test: `slow`."""


def pytest_configure(config):
    """Hide GPUs unless ``-m cuda`` asks for them: ranks are forks, and autograd's threads for a
    device, which the first backward starts, do not survive one.
    """
    if "cuda" not in config.option.markexpr:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.hookimpl(tryfirst=True)  # before ``-m`` is looked at
def pytest_collection_modifyitems(items):
    """Mark the core of the suite, and what is slow."""
    for item in items:
        if item.path.is_relative_to(TESTS):
            path = item.path.relative_to(TESTS).as_posix()
            if path.startswith(CORE) and not path.startswith(NOT_CORE):
                item.add_marker("core")
            if path.startswith(SLOW):
                item.add_marker("slow")


@pytest.fixture(autouse=True, scope="session")
def fit_to_fork():
    """Compute on one thread, and start autograd before anything is compiled.

    The tensors are small, and a fork must not inherit a thread pool. A first backward that comes
    after torch.compile starts threads for devices that are not there, in builds with CUDA.
    What was imported and collected by now, a million objects, no garbage collection looks at again.
    """
    gc.collect()
    gc.freeze()
    torch.set_num_threads(1)
    torch.ones(1, requires_grad=True).sum().backward()


@pytest.fixture(scope="module")
def in_sight():
    """Let the tests of a module see everything."""
    yield from all_in_sight()


@pytest.fixture(autouse=True)
def seed():
    """Give every test the same random numbers, in whatever order the tests run."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def surroundings():
    """Run the test as ``TORCHCREATOR_TESTS`` says."""
    how = os.environ.get("TORCHCREATOR_TESTS", "")
    assert how in ("", "frozen", "traced")
    before = sys.gettrace()
    if how == "frozen":
        gc.freeze()
    elif how == "traced":
        threading.settrace(reading)
        sys.settrace(reading)
    yield
    if how == "frozen":
        gc.unfreeze()
    elif how == "traced":
        sys.settrace(before)
        threading.settrace(before)
