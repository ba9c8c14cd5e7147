"""A creator that remembers what it saw."""

from __future__ import annotations

import pytest

from tests.modules.creators import Ledger


@pytest.fixture
def ledger():
    return Ledger()
