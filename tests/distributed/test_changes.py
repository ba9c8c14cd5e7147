"""Policies follow what a model becomes after they were set up."""

from __future__ import annotations

import pytest

from tests.distributed.scenarios.changes import SCENARIOS, WANTED
from tests.support.ranks import Scenes


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The gradients after each change, on rank 0, which feeds 1, and rank 1, which feeds 2."""
    return Scenes(SCENARIOS, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", SCENARIOS)
def test_gradients_after_a_change_are_those_that_are_declared(played, case):
    """Thawed, replaced by loading or assignment, exchanged inside, added: reduced as declared."""
    change, _ = case.split()
    for got in played[case]:
        names = {name.rpartition(".")[2] for name in got}
        assert names >= set(WANTED)
        assert change not in ("thawed",) or len(names) == 2 * len(WANTED)
        for name, gradient in got.items():
            wanted = WANTED[name.rpartition(".")[2].removeprefix("frozen_")]
            assert gradient == pytest.approx([wanted] * 2), name
