"""A creator that remembers what it saw, and a collector that hides nothing."""

from __future__ import annotations

import pytest

from tests.modules.creators import Ledger
from tests.support.heap import all_in_sight


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture(autouse=True, scope="package")
def as_elsewhere():
    """See what there is to see: whether a module holds a parameter depends on it."""
    yield from all_in_sight()
