"""What the tests of builds share."""

from __future__ import annotations

import pytest
import torch

from torchcreator._recorder import parts


@pytest.fixture
def threads():
    """Return what sets the number of threads until the test is over."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def cut(monkeypatch):
    """Cut every model into many parts, small as it is."""
    monkeypatch.setattr(parts, "_WORTH_A_LOOK", 0)
    monkeypatch.setattr(parts, "_WORTH_THREADS", 0)
    monkeypatch.setattr(parts, "_PARTS", 7)
    monkeypatch.setattr(parts, "_SHORTEST", 0)
