"""Recordings that a test makes and leaves."""

import pytest

from torchcreator._recorder import rng_watch


@pytest.fixture(autouse=True)
def watches():
    """Let later recordings look for nothing that others, left unfinished, did to a generator."""
    yield
    rng_watch._watches.clear()
