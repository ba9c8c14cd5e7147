"""Other people's training loops carry out everything that variables declare."""

from __future__ import annotations

import importlib.util

import pytest

from tests.distributed.scenarios import loops
from tests.support.ranks import Scenes


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """What each loop makes of the model on rank 0 and rank 1."""
    functions = {loop.__name__: loop for loop in loops.LOOPS}
    return Scenes(functions, 2, tmp_path_factory.mktemp("ranks"), timeout=150)


@pytest.mark.parametrize("loop", loops.LOOPS, ids=lambda loop: loop.__name__)
def test_a_loop_carries_out_everything(played, loop):
    """Sums, means, the first rank's, values per rank, a constraint and a counter, accumulated."""
    library = loops.LIBRARIES.get(loop)
    if library is not None and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    for rank, got in enumerate(played[loop.__name__]):
        assert got == pytest.approx(loops.wanted(rank))
