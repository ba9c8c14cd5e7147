"""What `recreate` does depends on what the garbage collector shows."""

import pytest

from tests.support.heap import all_in_sight


@pytest.fixture(autouse=True, scope="package")
def as_elsewhere():
    """See what there is to see."""
    yield from all_in_sight()
