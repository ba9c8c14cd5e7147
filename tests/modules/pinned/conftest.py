"""No test of pins leaves a mode behind."""

from __future__ import annotations

import pytest

from torchcreator._torch.dispatch import dispatch_stack_depth, pop_dispatch_mode


@pytest.fixture(autouse=True)
def empty_stack():
    """Fail where a test leaves a mode behind."""
    yield
    left = dispatch_stack_depth()
    for _ in range(left):
        pop_dispatch_mode()
    assert left == 0
