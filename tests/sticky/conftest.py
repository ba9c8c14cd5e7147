"""No test of pins leaves a mode behind."""

from __future__ import annotations

import pytest

from torchcreator import _private


@pytest.fixture(autouse=True)
def empty_stack():
    """Fail where a test leaves a mode behind."""
    yield
    left = _private.dispatch_stack_depth()
    for _ in range(left):
        _private.pop_dispatch_mode()
    assert left == 0
