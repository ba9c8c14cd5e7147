"""No test leaves a scope open."""

from __future__ import annotations

import pytest
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from torchcreator._chain.open_scopes import current


@pytest.fixture(autouse=True)
def nothing_stays_open():
    """No test leaves a scope behind, nor a mode in torch's stack."""
    yield
    assert current.get() is None
    assert _get_current_dispatch_mode_stack() == []
