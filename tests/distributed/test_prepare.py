"""A DDP that somebody else makes carries out what the variables of a prepared model declare."""

from __future__ import annotations

import pytest
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from tests.distributed.models import Policies, expected, feed, gradients
from tests.distributed.scenarios import prepared
from tests.support.ranks import run_ranks, scenes
from torchcreator.distributed import prepare


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The results of each scenario on rank 0 and rank 1."""
    functions = [*prepared.RIGHT, *prepared.COPIES, *prepared.OTHERS]
    return scenes(functions, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", prepared.RIGHT, ids=lambda case: case.__name__)
def test_gradients_are_those_worked_out_by_hand(played, case):
    """In any order of preparing, copying, evaluating and wrapping, once or twice."""
    for rank, got in enumerate(played[case.__name__]):
        assert got == expected(rank)


@pytest.mark.parametrize("host", prepared.HOSTS)
@pytest.mark.parametrize("case", prepared.COPIES, ids=lambda case: case.__name__)
def test_copies_of_a_wrapped_model_have_its_policies(played, case, host):
    """A deepcopy, an unpickled or a saved DDP reduces as the one that it was made of."""
    for rank, results in enumerate(played[case.__name__]):
        want = expected(rank)
        if host == "aggregate_gradients":
            want = {name: value for name, value in want.items() if not name.endswith("local")}
        assert results[host] == want


def test_shared_values_become_rank_0s_and_per_rank_ones_stay(played):
    """The DDP of somebody else broadcasts what is one value on all ranks, and nothing else."""
    for rank, got in enumerate(played["starts"]):
        own = {name for name in got if name.endswith(("local", "counter"))}
        assert {got[name] for name in own} == {float(rank)}
        assert {got[name] for name in got.keys() - own} == {0.0}


def test_a_ddp_around_a_plain_module_with_policies(played):
    """The DDP takes over from `aggregate_gradients`, and sums once."""
    for rank, got in enumerate(played["around_aggregate_gradients"]):
        want = expected(rank)
        assert got == {name: value for name, value in want.items() if not name.endswith("local")}


def test_a_ddp_inside_another_is_not_called_alone(played):
    """Once the outer one reduces, a call of the inner one alone is refused."""
    for message in played["the_inner_one_alone"]:
        assert message.startswith("A DistributedDataParallel that another one wraps was called by")


@pytest.mark.parametrize("case", ["compiled_before_the_wrap", "compiled_after_the_wrap"])
def test_compiled(played, case):
    """Whoever compiles it, before or after wrapping it, the policies hold from the first step."""
    for rank, both in enumerate(played[case]):
        bare = {name: value for name, value in expected(rank).items() if "." not in name}
        assert both == (bare, bare)


def test_it_has_to_come_first(played):
    """A DDP is refused, and the error says what to call instead."""
    for messages in played["too_late"]:
        assert len(messages) == 2
        assert all("that is wrapped or sharded already" in message for message in messages)


def test_ranks_that_disagree_are_told_before_anything_is_reduced(played):
    """The first forward compares declarations, and raises on all ranks."""
    for message in played["disagreeing"]:
        assert message.startswith("The ranks declare different variables.")


def test_a_buffer_with_a_policy_is_kept_out(played):
    """Its values stay this rank's own."""
    assert played["a_buffer"] == [0.0, 1.0]


def test_groups_of_their_own(played):
    """Variables with a process group are broadcast and reduced there."""
    for rank, (got, values) in enumerate(played["own_groups"]):
        assert got == {"alone": rank + 1.0, "both": 3.0, "plain": 1.5}
        assert values == {"alone": float(rank), "both": 0.0, "plain": 1.0}


def test_before_there_is_a_process_group(tmp_path):
    """A model may be prepared before the ranks have met."""

    def play(rank):
        dist.destroy_process_group()
        model = prepare(Policies(rank))
        dist.init_process_group(
            "gloo", init_method=f"file://{tmp_path / 'later'}", rank=rank, world_size=2
        )
        ddp = DistributedDataParallel(model)
        ddp(feed(rank)).backward()
        return gradients(ddp)

    assert run_ranks(play, 2, tmp_path) == [expected(0), expected(1)]


def test_on_one_rank(tmp_path):
    """In a world of one, a prepared model trains as any other."""

    def play(rank):
        ddp = DistributedDataParallel(prepare(Policies(rank)))
        ddp(feed(rank)).backward()
        return gradients(ddp)

    assert run_ranks(play, 1, tmp_path) == [expected(0, world_size=1)]
