"""`build` equals plain construction, bit for bit."""

from __future__ import annotations

import pytest

from tests.build.constructors import CONSTRUCTORS
from tests.build.same import assert_builds_same


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_exact(name):
    """Built without a seed, a model equals the plain one: values, ties, memory, generator."""
    assert_builds_same(CONSTRUCTORS[name])
