"""Hosts and optimizers that go ways of their own are followed, or told of."""

from __future__ import annotations

import pytest

from tests.distributed.scenarios.recognised import JOINING, SCENARIOS
from tests.support.ranks import scenes

# By an import of torch's.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The results of each scenario on rank 0, which feeds 1, and rank 1, which feeds 2."""
    return scenes(SCENARIOS, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("host", JOINING)
def test_a_join_that_divides_by_who_is_left(played, host):
    """Means are those of the ranks that take part; the first rank's is nothing once it is gone."""
    both, alone = [3.0, 1.5, 1.0, 1.5], [2.0, 2.0, 0.0, 2.0]
    zero, one = played["uneven_join"]
    assert zero[host] == [both]
    assert one[host] == [both, alone]


def test_what_such_a_join_cannot_do_is_told(played):
    """Holding gradients back, and adding to what is summed, are refused."""
    for messages in played["held_back_in_a_join"]:
        assert len(messages) == 2
        assert all(message.startswith("A forward in no_sync()") for message in messages)
    for message in played["accumulated_in_a_join"]:
        assert message.startswith("Variable 'summed' is summed, and accumulates inside")


def test_a_group_of_its_own_follows_no_sync(played):
    """Uneven numbers of micro-batches are sent once on each rank: 1, and three times 2."""
    assert played["own_group_without_sync"] == [[7.0, 3.5]] * 2


def test_a_group_of_its_own_in_a_join_is_told(played):
    """A rank without data would not take part in what goes beside DDP."""
    for message in played["own_group_in_a_join"]:
        assert message.startswith("Variable 'own' is reduced beside DDP, and DDP is or was in join")


def test_what_fsdp_divides_by(played):
    """Policies are as declared, whatever the factor; what asked for nothing follows it."""
    for first, second in played["fsdp_divides_by_something_else"]:
        assert first == [3.0, 1.5, 1.0, 3.0]
        assert second == [3.0, 1.5, 1.0, 0.75]


def test_zero_redundancy_optimizer(played):
    """Each rank steps its own value, and the shared ones are stepped once and sent."""
    for rank, results in enumerate(played["zero_redundancy"]):
        for shared, expert in results:
            assert shared == pytest.approx([-1.0])
            assert expert == pytest.approx(10.0 * (rank + 1) - 2)


def test_zero_redundancy_optimizer_inside_the_backward(played):
    """It steps what is in DDP's buckets alone, and what is not there is told, not forgotten."""
    value, group = "expert' has a value per rank", "grouped' has a process group of its own"
    for said in played["overlapping_zero_redundancy"]:
        for message, what in zip(said, [value, value, group, group] * 2, strict=True):
            first, _, instead = message.splitlines()
            assert first.endswith(f"{what}, and ZeroRedundancyOptimizer overlaps with DDP.")
            assert instead.startswith("Leave overlap_with_ddp out")
    assert played["overlapping_without_such"] == [True, True]


def test_post_local_sgd(played):
    """It averages what is per rank, which is refused, and after the projections, which is told."""
    for refused, warned in played["post_local_sgd"]:
        assert refused.startswith("Variable 'expert' has a value per rank, and PostLocalSGD")
        assert "apply_constraints(model) after its step()" in warned
