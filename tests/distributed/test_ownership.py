"""A parameter's gradient is reduced once, whoever else asks for it."""

from __future__ import annotations

import pytest

from tests.distributed.scenarios.ownership import SCENARIOS
from tests.support.ranks import scenes


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The results of each scenario on rank 0, which feeds 1, and rank 1, which feeds 2."""
    return scenes(SCENARIOS, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", ["two_models", "part_then_whole", "whole_then_part"])
def test_two_plain_models_that_have_a_parameter_in_common(played, case):
    """The sum is one sum, through whichever of them the backward goes."""
    assert played[case] == [(3.0, 3.0)] * 2


@pytest.mark.parametrize(
    "case", ["sharded_part_then_whole", "plain_then_data_parallel", "plain_then_a_ddp"]
)
def test_a_host_that_comes_later(played, case):
    """FSDP2 and DDP reduce what they have; who was asked before steps back."""
    assert played[case] == [3.0] * 2


def test_what_a_ddp_has_stays_there(played):
    """The module of a `data_parallel` may be given its policies again, and its handle works."""
    # What is held back has its factor already: twice the rank's own.
    assert played["data_parallel_then_plain"] == [(3.0, 2.0)] * 2


def test_who_is_left_takes_over(played):
    """When the policies of one model end, by `remove` or with it, the other's are in force."""
    assert played["the_first_owner_goes"] == [(3.0, 3.0)] * 2


def test_over_other_ranks_is_refused(played):
    """One parameter cannot be reduced over two groups; the error names it and both."""
    for rank, message in enumerate(played["other_ranks"]):
        assert message.startswith("Variable '0.w' is reduced already, over the ranks [0, 1].")
        assert f"over the ranks [{rank}]" in message


def test_a_second_ddp_is_refused_while_the_first_is_there(played):
    """The first goes on as it was; once it is gone, the model can be wrapped anew."""
    for message, kept, anew in played["two_wrappers"]:
        assert message.startswith("Variable 'w' is in the hands of another DistributedDataPara")
        assert (kept, anew) == (3.0, 3.0)
