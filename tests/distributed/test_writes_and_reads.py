"""Writes and reads of one variable by several ranks: the whole matrix, by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard

import torchcreator as tc
from tests.support.ranks import run_ranks

# A variable holds 10; rank r writes r + 1. What each operation leaves behind, for one, two and
# three ranks, on every rank: one value written by all of them (AUTO is ON_WRITE).
ON_WRITE = {
    ("sum", "assign"): (1.0, 3.0, 6.0),
    ("sum", "assign_add"): (11.0, 13.0, 16.0),
    ("sum", "assign_sub"): (9.0, 7.0, 4.0),
    ("mean", "assign"): (1.0, 1.5, 2.0),
    ("mean", "assign_add"): (11.0, 11.5, 12.0),
    ("mean", "assign_sub"): (9.0, 8.5, 8.0),
    ("only_first_replica", "assign"): (1.0, 1.0, 1.0),
    ("only_first_replica", "assign_add"): (11.0, 11.0, 11.0),
    ("only_first_replica", "assign_sub"): (9.0, 9.0, 9.0),
    # Without an aggregation, one rank writes, and more are told to choose one.
    ("none", "assign"): (1.0, "refused", "refused"),
    ("none", "assign_add"): (11.0, "refused", "refused"),
    ("none", "assign_sub"): (9.0, "refused", "refused"),
}
# What each rank holds where the value is its own, and, for ON_READ, what all of them then read.
OWN = {"assign": (1.0, 2.0, 3.0), "assign_add": (11.0, 12.0, 13.0), "assign_sub": (9.0, 8.0, 7.0)}
# The same, but for a sum, which counts the 10 of every rank.
ON_READ = ON_WRITE | {
    ("sum", "assign_add"): (11.0, 23.0, 36.0),
    ("sum", "assign_sub"): (9.0, 17.0, 24.0),
}
SYNCHRONIZATIONS = ("auto", "on_write", "on_read", "none")
AGGREGATIONS = ("none", "sum", "mean", "only_first_replica")
OPERATIONS = ("assign", "assign_add", "assign_sub")
MATRIX = list(itertools.product(SYNCHRONIZATIONS, AGGREGATIONS, OPERATIONS))


def attempt(fn, *args):
    try:
        return fn(*args).item()
    except ValueError as error:
        return f"refused: {error}"


def cell(rank, synchronization, aggregation, operation):
    v = tc.variable(10.0, synchronization=synchronization, aggregation=aggregation, name="v")
    written = attempt(getattr(tc, operation), v, rank + 1)
    return written, v.item(), attempt(tc.read_value, v)


# Below, functions of a rank: each is one scenario of a world of three, and has a test.


def dtypes(rank):
    results = {}
    for dtype in (torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.complex64):
        v = tc.variable(10, dtype=dtype, aggregation="sum")
        results[f"sum of {dtype}"] = tc.assign(v, rank + 1).item()
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        v = tc.variable(10.0, dtype=dtype, aggregation="mean")
        results[f"mean of {dtype}"] = tc.assign(v, rank + 1.0).item()
    flag = tc.variable(False, aggregation="only_first_replica")
    results["first of torch.bool"] = tc.assign(flag, rank == 0).item()
    small = torch.tensor([rank + 1.0]).to(torch.float8_e4m3fn)
    v = tc.variable(small, aggregation="only_first_replica", trainable=False)
    results["first of float8"] = tc.assign(v, small).float().item()
    return results


def narrow_sums(rank):
    results = {}
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        most = torch.iinfo(dtype).max
        for case, value in (("fits", most // 3), ("wraps", most)):
            v = tc.variable(
                torch.tensor(value, dtype=dtype),
                synchronization="on_read",
                aggregation="sum",
                name=f"seen_{case}",
            )
            results[f"{dtype} {case}"] = attempt(tc.read_value, v)
    return results


def boolean_sum(rank):
    v = tc.variable(False, synchronization="on_read", aggregation="sum", name="flag")
    try:
        tc.read_value(v)
    except TypeError as error:
        return str(error)


def mean_of_equal_values(rank):
    generator = torch.Generator().manual_seed(0)
    counts = {}
    for dtype, bits in {
        torch.float32: torch.int32,
        torch.float64: torch.int64,
        torch.bfloat16: torch.int16,
        torch.float16: torch.int16,
    }.items():
        ends = torch.iinfo(bits)
        patterns = torch.randint(ends.min, ends.max, (5000,), generator=generator, dtype=bits)
        values = patterns.view(dtype)
        values = values[values.isfinite()]
        v = tc.variable(torch.zeros_like(values), aggregation="mean")
        counts[str(dtype)] = int((tc.assign(v, values) != values).sum())
    return counts


def subgroups(rank):
    group = dist.new_group([0, 1])
    v = tc.variable(10.0, aggregation="sum", process_group=group)
    seen = tc.variable(
        rank + 1.0, synchronization="on_read", aggregation="sum", process_group=group
    )
    return tc.assign(v, rank + 1.0).item(), tc.read_value(seen).item()


def group_not_from_zero(rank):
    group = dist.new_group([1, 2])
    v = tc.variable(10.0, aggregation="only_first_replica", process_group=group)
    return tc.assign(v, rank + 1.0).item()


def undeclared(rank):
    p = torch.nn.Parameter(torch.zeros(1))
    return attempt(tc.assign, p, [1.0])


def transposed(rank):
    v = tc.variable(torch.zeros(2, 3), aggregation="sum")
    value = torch.arange(6.0).view(3, 2).t()
    return tc.assign(v, value).tolist(), v.is_contiguous()


def sharded(rank):
    model = torch.nn.Module()
    model.w = tc.variable(torch.zeros(5), aggregation="mean")
    fully_shard(model)
    tc.assign(model.w, torch.arange(5.0) * rank)
    tc.assign_add(model.w, model.w)
    return tc.read_value(model.w).full_tensor().tolist(), model.w.to_local().numel()


def local_writes_alone(rank):
    seen = tc.variable(0, synchronization="on_read", aggregation="sum")
    if rank == 1:
        tc.assign_add(seen, 7)
    return tc.read_value(seen).item()


def cached_reading(rank):
    seen = tc.variable(
        rank + 1.0, synchronization="on_read", aggregation="sum", caching_device="cpu"
    )
    first = tc.read_value(seen).item()
    tc.assign_add(seen, 1.0)
    return first, tc.read_value(seen).item()


SCENARIOS = [
    dtypes,
    narrow_sums,
    boolean_sum,
    mean_of_equal_values,
    subgroups,
    group_not_from_zero,
    undeclared,
    transposed,
    sharded,
    local_writes_alone,
    cached_reading,
]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """For one, two and three ranks: every cell of the matrix, and with three the scenarios."""

    def play(rank):
        results = {key: cell(rank, *key) for key in MATRIX}
        if dist.get_world_size() == 3:
            results |= {scenario.__name__: scenario(rank) for scenario in SCENARIOS}
        return results

    return {n: run_ranks(play, n, tmp_path_factory.mktemp("ranks")) for n in (1, 2, 3)}


@pytest.fixture(scope="module")
def played(worlds):
    """What each scenario gave on ranks 0, 1 and 2."""
    return {s.__name__: [rank[s.__name__] for rank in worlds[3]] for s in SCENARIOS}


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize(
    ("synchronization", "aggregation", "operation"), MATRIX, ids=lambda value: value
)
def test_the_matrix(worlds, world_size, synchronization, aggregation, operation):
    """Every write leaves, and every read returns, what was worked out by hand, on every rank."""
    for rank, results in enumerate(worlds[world_size]):
        written, held, read = results[synchronization, aggregation, operation]
        if synchronization in ("auto", "on_write"):
            want = ON_WRITE[aggregation, operation][world_size - 1]
            if want == "refused":
                assert "aggregation='only_first_replica' if every rank passes the same" in written
                want = 10.0  # untouched
            else:
                assert written == want
            assert (held, read) == (want, want)
        else:
            own = OWN[operation][rank]
            assert (written, held) == (own, own)
            want = ON_READ[aggregation, operation][world_size - 1]
            if synchronization == "none":
                assert read == own
            elif want == "refused":
                assert "'v" in read
                assert "is ON_READ and its aggregation is NONE" in read
            else:
                assert read == want


def test_every_dtype(played):
    """Integers, booleans, complex, half and 8-bit floats aggregate as floats do."""
    for results in played["dtypes"]:
        assert len(results) == 10
        for what, value in results.items():
            assert value == {"sum": 6, "mean": 2, "first": 1}[what.split()[0]], what


def test_a_sum_that_its_dtype_cannot_hold_is_told(played):
    """It would wrap around: every rank is told, and a sum that fits is exact."""
    for results in played["narrow_sums"]:
        for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
            assert results[f"{dtype} fits"] == torch.iinfo(dtype).max // 3 * 3
            told = results[f"{dtype} wraps"]
            assert told.startswith("refused: The sum of variable 'seen_wraps")
            assert f"over the ranks does not fit into {dtype}" in told
            assert str(3 * torch.iinfo(dtype).max) in told


def test_a_sum_of_booleans_is_refused(played):
    """True + True is no truth value, so the read says what to do instead."""
    for message in played["boolean_sum"]:
        assert "'flag' is boolean" in message
        assert "integer dtype" in message


def test_the_mean_of_equal_values_is_the_value(played):
    """On three ranks too, and for every finite bit pattern: no ulp off, no overflow."""
    for wrong in played["mean_of_equal_values"]:
        assert wrong == {
            "torch.float32": 0,
            "torch.float64": 0,
            "torch.bfloat16": 0,
            "torch.float16": 0,
        }


def test_a_variable_with_a_group_is_aggregated_there(played):
    """Ranks 0 and 1 share a variable; for rank 2, outside the group, it is a local one."""
    assert played["subgroups"] == [(3.0, 3.0), (3.0, 3.0), (3.0, 3.0)]
    assert played["group_not_from_zero"] == [1.0, 2.0, 2.0]


def test_an_undeclared_parameter_is_not_written_blindly(played):
    """A plain parameter on several ranks is refused as a variable without aggregation is."""
    for message in played["undeclared"]:
        assert message.startswith("refused: Variable 'Variable' is one value on 3 ranks")


def test_a_value_that_is_not_contiguous(played):
    """A transposed value is summed by place, not by memory."""
    assert played["transposed"] == [([[0.0, 6.0, 12.0], [3.0, 9.0, 15.0]], True)] * 3


def test_a_sharded_variable(played):
    """A whole value is written into shards, each rank its own; reading gives shards back."""
    for rank, (values, own) in enumerate(played["sharded"]):
        assert values == [0.0, 2.0, 4.0, 6.0, 8.0]
        assert own == (2, 2, 1)[rank]


def test_writing_a_value_per_rank_needs_no_other_rank(played):
    """One rank alone writes its ON_READ value; all of them then read the sum."""
    assert played["local_writes_alone"] == [7, 7, 7]


def test_a_reading_is_not_cached(played):
    """A caching device changes where an ON_READ value is read, not that all ranks' count."""
    assert played["cached_reading"] == [(6.0, 9.0)] * 3
