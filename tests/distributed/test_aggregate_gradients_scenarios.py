"""What befalls models under ``aggregate_gradients``, and what each host refuses."""

from __future__ import annotations

import pytest

from tests.distributed.models import expected
from tests.distributed.scenarios.aggregate_gradients import SCENARIOS
from tests.support.ranks import scenes


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The results of each scenario on rank 0 and rank 1."""
    return scenes(SCENARIOS, 2, tmp_path_factory.mktemp("ranks"))


def test_unused_on_one_rank_or_on_all(played):
    """What one rank did not use gets the others' part; what none used keeps None."""
    twice = {"summed": 2.0, "mean": 1.0, "first": 2.0, "plain": 1.0, "never": None}
    zero, one = played["unused"]
    assert zero == expected(0, backwards=2) | twice | {"local": 2.0}
    assert one == expected(1, backwards=2) | twice | {"local": None}


def test_what_an_unsynchronised_backward_used_is_reduced_by_the_next(played):
    """A gradient that no_sync() held back travels with the next backward, used there or not."""
    for rank, got in enumerate(played["unused_after_no_sync"]):
        nested = {k: v for k, v in expected(rank, backwards=2).items() if "." in k}
        assert got == expected(rank) | nested | {"never": None}


def test_evaluation_and_frozen_parameters_do_no_harm(played):
    """A sum is a sum after a forward in inference mode, and after its parameter was frozen."""
    assert played["evaluated_and_frozen"] == [[3.0, 3.0, 3.0]] * 2


def test_a_nan_stays_on_its_rank_where_only_the_first_counts(played):
    """ONLY_FIRST_REPLICA drops rank 1's NaN in every host."""
    assert played["nan_on_rank_1"] == [{"ddp": "1.0", "plain": "1.0", "fsdp2": "1.0"}] * 2


def test_a_backward_that_raised_leaves_nothing_behind(played):
    """After a backward that failed half-way, the next one is right."""
    assert played["raised_half_way"] == [expected(0), expected(1)]


def test_reentrant_checkpointing(played):
    """Backwards inside backwards each reduce what they bring, and it adds up."""
    for rank, got in enumerate(played["checkpointed"]):
        bare = {k: v for k, v in expected(rank, backwards=2).items() if "." not in k}
        assert got == bare


def test_conversion_does_not_turn_sum_into_mean(played):
    """After ``.to()`` a call of the module puts SUM back; around the call, it is an error once."""
    for rank, (through_call, message, afterwards) in enumerate(played["converted"]):
        bare = {k: v for k, v in expected(rank).items() if "." not in k}
        assert through_call == bare
        assert "arrived without its aggregation" in message
        assert "'summed'" in message or "'first'" in message
        assert afterwards == bare


def test_calling_twice_replaces(played):
    """A second call does not sum the sum."""
    assert played["called_twice"] == [[3.0, 3.0, 3.0]] * 2


def test_remove_gives_the_host_back(played):
    """Without the policies DDP and FSDP2 average, and a plain module's gradients are its own."""
    assert played["removed"] == [[1.5, 1.0, 1.5], [1.5, 2.0, 1.5]]


def test_the_handle_need_not_be_kept(played):
    """A handle that the caller drops does not turn SUM into MEAN, nor does it keep the model."""
    assert played["dropped_handle"] == [[(3.0, True)] * 3] * 2


def test_copies_of_a_plain_module_are_on_their_own(played):
    """A copy or an unpickled model does not communicate until it is given its policies too."""
    assert played["copied_and_pickled"] == [[1.0, 1.0], [2.0, 2.0]]


def test_a_plain_module_gets_rank_0s_values(played):
    """Shared parameters become rank 0's, per-rank ones stay."""
    for rank, got in enumerate(played["values"]):
        own = {name for name in got if name.endswith(("local", "counter"))}
        assert {got[name] for name in own} == {float(rank)}
        assert {got[name] for name in got.keys() - own} == {0.0}


def test_large_and_transposed_parameters(played):
    """Parameters that fill several buckets, and one that is not contiguous, fare the same."""
    start = {name: [0.0] for name in "abcd"}
    assert (
        played["large_parameters"]
        == [(start, {"a": [3.0], "b": [1.5], "c": [1.0], "d": [1.5]})] * 2
    )


def test_compiled_models(played):
    """A compiled plain module reduces as an eager one does."""
    for rank, results in enumerate(played["compiled"]):
        assert results == [expected(rank, backwards=2)] * 2


def test_mixed_dtypes(played):
    """Each dtype travels on its own, complex ones uncompressed."""
    for rank, got in enumerate(played["mixed_dtypes"]):
        bare = {k: v for k, v in expected(rank).items() if "." not in k}
        assert got == bare | {"half_": 3.0, "double_": 1.0, "complex_": 3.0}


def test_sparse_gradients_are_refused_by_name(played):
    """A sparse gradient in a plain module is an error that names the parameter and the way out."""
    for message in played["sparse"]:
        assert "'weight' is sparse" in message
        assert "data_parallel()" in message


@pytest.mark.parametrize(
    ("case", "message"),
    {
        "per-rank in DDP": "'local' is in the hands of DistributedDataParallel, and has a value",
        "per-rank in FSDP2": "'local' is sharded, and is NONE",
        "another group": "a group other than the DDP's own",
        "compress in DDP": "compress=torch.float16 for a model in DDP",
        "compress in FSDP2": "reduce_dtype=torch.float16",
        "DDP inside": "Module '0' of the model is a DistributedDataParallel",
        "mixed precision in DDP": "was given a DDP with mixed_precision=_MixedPrecision(param_dty",
        "DTensor": "Parameter 'w' is a DTensor",
        "in backward": "'summed' is stepped by an optimizer inside the backward",
    }.items(),
)
def test_what_a_host_cannot_do_is_refused(played, case, message):
    """Each refusal names the variable or the option, and what to write instead."""
    for refusals in played["refused"]:
        if refusals[case].startswith("torch refuses"):
            pytest.skip(refusals[case])
        assert message in refusals[case]
