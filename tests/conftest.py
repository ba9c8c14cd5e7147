"""What holds for every test."""

from __future__ import annotations

import pytest
import torch

collect_ignore = ["typing"]  # read by mypy in test_typing.py, never run
pytest_plugins = ["pytester", "torchcreator.pytest_plugin"]  # ours, where it is not installed


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Compute on one thread: the tensors are small, and a fork must not inherit a thread pool."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    """Give every test the same random numbers, in whatever order the tests run."""
    torch.manual_seed(0)
