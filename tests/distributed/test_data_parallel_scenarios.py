"""What befalls models under ``data_parallel``."""

from __future__ import annotations

import pytest
import torch

from tests.distributed.models import expected
from tests.distributed.scenarios.data_parallel import SCENARIOS
from tests.support.ranks import scenes


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The results of each scenario on rank 0 and rank 1."""
    return scenes(SCENARIOS, 2, tmp_path_factory.mktemp("ranks"))


def test_large_parameters(played):
    """Gradients too large for one product of the bucket are scaled one by one, NaN included."""
    for results, spoiled in played["large"]:
        assert results == [[[3.0], [1.5], [1.0]]] * 3
        assert spoiled == ["nan", "nan", "2.0"]


def test_a_mesh_names_the_ranks(played):
    """A device mesh serves as DDP's own option does."""
    assert played["over_a_mesh"] == [expected(0), expected(1)]


def test_mixed_precision_of_ddp_is_refused(played):
    """DDP's mixed precision is refused before the model is touched, with what to do instead."""
    for message, dtype in played["mixed_precision"]:
        what, why, instead = message.splitlines()
        assert what.startswith("data_parallel() was given a DDP with mixed_precision=_MixedPreci")
        assert "communication hook" in why
        assert "torch.autocast()" in instead
        assert dtype == torch.float32


def test_policies_are_not_applied_twice(played):
    """A DDP from data_parallel refuses aggregate_gradients, and goes on as before."""
    for rank, (messages, got) in enumerate(played["policies_twice"]):
        assert len(messages) == 2
        assert all("has its policies from data_parallel() already" in m for m in messages)
        assert got == expected(rank)


def test_unused_on_one_rank(played):
    """A parameter that rank 1 never uses gets what rank 0 has to say, by its policy."""
    twice = {"summed": 2.0, "mean": 1.0, "first": 2.0, "plain": 1.0}
    zero, one = played["unused_on_rank_1"]
    assert zero == expected(0, backwards=2) | twice | {"local": 2.0}
    assert one == expected(1, backwards=2) | twice | {"local": None}


def test_a_nan_stays_where_the_policy_keeps_it(played):
    """A NaN on rank 1 reaches what is summed or averaged, and nothing of rank 0's alone."""
    zero, one = played["nan_on_rank_1"]
    shared = {"summed": "nan", "mean": "nan", "plain": "nan", "first": "1.0"}
    assert zero == shared | {"local": "1.0"}
    assert one == shared | {"local": "nan"}


def test_without_policies_nothing_changes(played):
    """The gradients of a model without any policy are plain DDP's, bit for bit."""
    assert played["bit_equal_to_ddp"] == [True, True]


def test_shared_values_become_rank_0s_and_per_rank_ones_stay(played):
    """Wrapping broadcasts what is one value on all ranks, and leaves per-rank values alone."""
    for rank, values in enumerate(played["values_after_wrapping"]):
        own = {name for name in values if name.endswith(("local", "counter"))}
        assert {name: value for name, value in values.items() if name in own} == dict.fromkeys(
            own, float(rank)
        )
        assert {value for name, value in values.items() if name not in own} == {0.0}


def test_every_alias_of_a_tied_parameter_is_treated_alike(played):
    """A per-rank parameter with three names stays out of DDP; a summed one with two sums once."""
    assert played["tied"] == [(0.0, 2.0, 6.0), (1.0, 4.0, 6.0)]


def test_an_earlier_ignore_list_is_kept(played):
    """What somebody else told DDP to ignore is still ignored, beside what is per rank."""
    assert played["earlier_ignore_list"] == [(1.0, 1.0, 0.0), (2.0, 2.0, 1.0)]


def test_sparse_gradients(played):
    """Sparse gradients follow the policies too, and add up."""
    one = [[3.0, 0.0], [1.5, 0.0], [1.0, 0.0]]
    two = [[6.0, 0.0], [3.0, 0.0], [2.0, 0.0]]
    assert played["sparse"] == [[one, one, two]] * 2


def test_uneven_inputs_with_join(played):
    """A rank that ran out of data takes part with zeros: SUM gets the rest, MEAN half of it."""
    zero, one = played["uneven_inputs"]
    both = {"summed": 3.0, "mean": 1.5, "first": 1.0, "plain": 1.5}
    alone = {"summed": 2.0, "mean": 1.0, "first": 0.0, "plain": 1.0}
    assert zero == [both | {"local": 1.0}]
    assert one == [both | {"local": 2.0}, alone | {"local": 2.0}]


def test_nobody_needs_to_keep_anything_and_nothing_is_kept(played):
    """The policies hold as long as the DDP lives, and do not keep it alive."""
    assert played["handle_dropped"] == [(expected(0), True), (expected(1), True)]


def test_autograd_grad_is_left_alone(played):
    """``torch.autograd.grad`` gives this rank's own gradient; only a backward is scaled."""
    assert played["gradient_penalty"] == [(1.0, 3.0), (2.0, 3.0)]


def test_two_arrivals_in_one_backward(played):
    """Reentrant checkpointing brings a gradient in two parts; both count once."""
    for rank, got in enumerate(played["checkpointed"]):
        once_each = {k: v for k, v in expected(rank, backwards=2).items() if "." not in k}
        assert got == once_each


def test_compiled_models(played):
    """A compiled step reduces as an eager one does."""
    for rank, results in enumerate(played["compiled"]):
        bare = {k: v for k, v in expected(rank, backwards=2).items() if "." not in k}
        assert results == [bare, bare]


def test_mixed_dtypes(played):
    """Parameters of several dtypes travel in buckets of their own, each with its policy."""
    for rank, got in enumerate(played["mixed_dtypes"]):
        bare = {k: v for k, v in expected(rank).items() if "." not in k}
        assert got == bare | {"half_summed": 3.0, "double_first": 1.0}


def test_gradient_scaling(played):
    """Scaled and unscaled by GradScaler, under autocast, gradients are the same."""
    for rank, got in enumerate(played["autocast"]):
        assert got == {k: v for k, v in expected(rank).items() if "." not in k}


def test_a_stateful_comm_hook(played):
    """PowerSGD takes DDP's only slot, and the policies hold beside it."""
    for rank, got in enumerate(played["power_sgd"]):
        assert got == expected(rank, backwards=2)
