"""Per-rank values brought together: for good, for a block, and in checkpoints."""

from __future__ import annotations

import contextlib
import copy
import io

import pytest
import torch
from torch import nn
from torch.distributed import checkpoint as dcp

import torchcreator as tc
from tests.ranks import run_ranks
from torchcreator.distributed import (
    aggregate_buffer,
    data_parallel,
    load_state_dict,
    state_dict,
    synchronize,
    synchronized,
)


class Counters(nn.Module):
    """Rank r holds r + 1 in each variable; the floats also a half."""

    def __init__(self, rank):
        super().__init__()
        value = rank + 1
        self.total = on_read(value + 0.5, "sum")
        self.count = on_read(value, "sum")
        self.average = on_read(value + 0.5, "mean")
        self.first = on_read(value, "only_first_replica")
        self.expert = tc.variable([float(value)], synchronization="none")
        self.shared = tc.variable([7.0], aggregation="sum")
        self.alias = self.count

    def numbers(self):
        return {name: p.item() for name, p in self.named_parameters(remove_duplicate=False)}

    def readings(self):
        names = ("total", "count", "average", "first")
        return {name: tc.read_value(getattr(self, name)).item() for name in names}


def on_read(value, aggregation):
    return tc.variable(value, synchronization="on_read", aggregation=aggregation)


def brought_together(rank):
    model = Counters(rank)
    before = model.readings()
    synchronize(model)
    return before, model.numbers(), model.readings()


def shown(rank):
    model = Counters(rank)
    with synchronized(model):
        inside = model.numbers(), model.readings()
        tc.assign(model.first, 99)  # lost
    with contextlib.suppress(ValueError), synchronized(model):
        raise ValueError
    return *inside, model.numbers(), model.readings()


class Norms(nn.Module):
    def __init__(self, rank):
        super().__init__()
        self.batch = nn.BatchNorm1d(2)
        self.instance = nn.InstanceNorm1d(2, track_running_stats=True)
        self.kept = nn.BatchNorm1d(2)
        self.register_buffer("steps", torch.tensor(10 + rank))
        self.register_buffer("mask", torch.full((1,), torch.finfo(torch.float32).min * (1 - rank)))
        for norm in (self.batch, self.instance, self.kept):
            norm.running_mean.fill_(rank)
            norm.num_batches_tracked.fill_(rank + 5)
        aggregate_buffer(self, "steps", "sum")
        aggregate_buffer(self.kept, "running_mean", "none")
        aggregate_buffer(self.kept, "running_var", "only_first_replica")

    def forward(self, x):
        return self.batch(x).sum()


def buffers(model):
    return {name: b.flatten()[0].item() for name, b in model.named_buffers()}


def norms(rank):
    model = Norms(rank)
    synchronize(model)
    copied = copy.deepcopy(Norms(rank))
    synchronize(copied)
    return buffers(model), buffers(copied)


def norms_in_ddp(rank):
    """DDP overwrites undeclared statistics at each forward, and leaves declared ones alone."""
    model = Norms(rank)
    aggregate_buffer(model.batch, "running_mean", "mean")
    ddp = data_parallel(model)
    start = buffers(model)
    for _ in range(2):
        ddp(torch.full((4, 2), rank + 1.0))
    own = model.batch.running_mean[0].item(), model.batch.running_var[0].item()
    synchronize(ddp)
    return start["batch.running_mean"], own, model.batch.running_mean[0].item()


def without_aggregation(rank):
    model = Counters(rank)
    model.lost = tc.variable(1.0, synchronization="on_read", name="lost")
    before = model.numbers()
    messages = []
    for call in (synchronize, lambda m: synchronized(m).__enter__()):
        try:
            call(model)
        except ValueError as error:
            messages.append(str(error))
    return messages, model.numbers() == before


def plain_checkpoint(rank):
    """Save with torch.save on each rank, load it again there."""
    model = Counters(rank)
    file = io.BytesIO()
    torch.save(state_dict(model), file)
    file.seek(0)
    other = Counters(5)
    load_state_dict(other, torch.load(file))
    return sorted(state_dict(model)), other.numbers()


def wrapped_checkpoint(rank):
    """The keys of a wrapped model's variables are the wrapped ones."""
    ddp = data_parallel(Counters(rank))
    state = state_dict(ddp)
    other = data_parallel(Counters(rank + 3))
    load_state_dict(other, state)
    return sorted(state), other.module.readings()


SCENARIOS = [
    brought_together,
    shown,
    norms,
    norms_in_ddp,
    without_aggregation,
    plain_checkpoint,
    wrapped_checkpoint,
]


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The results of each scenario on rank 0 and rank 1."""

    def play(rank):
        return {scenario.__name__: scenario(rank) for scenario in SCENARIOS}

    both = run_ranks(play, 2, tmp_path_factory.mktemp("ranks"))
    return {name: [rank[name] for rank in both] for name in both[0]}


READ = {"total": 4.0, "count": 3, "average": 2.0, "first": 1}


def test_synchronize_makes_values_equal_and_keeps_what_is_read(played):
    """Each rank holds its share of a sum, the mean, or the first's; an odd count is not lost."""
    for rank, (before, held, after) in enumerate(played["brought_together"]):
        assert before == READ
        assert after == READ
        # 3 on two ranks: rank 0 holds two of it.
        count = (2, 1)[rank]
        assert held == {
            "total": 2.0,
            "count": count,
            "alias": count,
            "average": 2.0,
            "first": 1,
            "expert": rank + 1.0,
            "shared": 7.0,
        }


def test_synchronized_shows_what_all_ranks_read(played):
    """Inside, values are the aggregates and reads do not sum them again; after, they are back."""
    for rank, (held, read, held_after, read_after) in enumerate(played["shown"]):
        assert {name: held[name] for name in READ} == READ
        assert read == READ
        assert held["expert"] == rank + 1.0
        assert held_after["total"] == rank + 1.5
        assert held_after["first"] == rank + 1
        assert read_after == READ


def test_statistics_are_averaged_by_type_and_others_as_declared(played):
    """BatchNorm and InstanceNorm: MEAN, counters the first's; a mask is left alone."""
    lowest = torch.finfo(torch.float32).min
    for rank, (first, copied) in enumerate(played["norms"]):
        assert first == copied
        for norm in ("batch", "instance"):
            assert first[f"{norm}.running_mean"] == 0.5
            assert first[f"{norm}.num_batches_tracked"] == 5
        assert first["kept.running_mean"] == rank
        assert first["kept.num_batches_tracked"] == 5
        assert first["steps"] == (11, 10)[rank]  # 10 + 11, in two shares
        assert first["mask"] == lowest * (1 - rank)


def test_ddp_leaves_declared_buffers_alone(played):
    """Two forwards with momentum 0.1 give 0.19 and 0.38; rank 0's variance is everywhere."""
    for rank, (start, (mean, variance), synchronised) in enumerate(played["norms_in_ddp"]):
        assert start == 0.0  # wrapping broadcast it once
        assert mean == pytest.approx(0.19 * (rank + 1))
        assert variance == pytest.approx(0.81)
        assert synchronised == pytest.approx(0.285)


def test_on_read_without_aggregation_changes_nothing(played):
    """The error names the variable, and no other value was touched."""
    for messages, untouched in played["without_aggregation"]:
        assert len(messages) == 2
        assert all("'lost' is ON_READ and its aggregation is NONE" in m for m in messages)
        assert untouched


def test_a_plain_checkpoint_holds_what_is_read(played):
    """A sum is saved whole and restored in shares, under all its names; an expert is its rank's."""
    for rank, (keys, restored) in enumerate(played["plain_checkpoint"]):
        assert keys == sorted([*READ, "alias", f"expert@{rank}", "shared"])
        count = (2, 1)[rank]
        assert restored == {
            "total": 2.0,
            "count": count,
            "alias": count,
            "average": 2.0,
            "first": 1,
            "expert": rank + 1.0,
            "shared": 7.0,
        }


def test_a_wrapped_model_is_saved_under_its_own_keys(played):
    """DDP's prefix is in the keys, and what was read before is read after."""
    for rank, (keys, read) in enumerate(played["wrapped_checkpoint"]):
        assert f"module.expert@{rank}" in keys
        assert "module.total" in keys
        assert read == READ


@pytest.mark.parametrize("readers", [1, 3])
def test_another_number_of_ranks_loads_a_distributed_checkpoint(tmp_path, readers):
    """Saved by two ranks, a sum is read again by one or three, experts by those that have one."""

    def save(rank):
        dcp.save(state_dict(Counters(rank)), checkpoint_id=tmp_path / "saved", no_dist=False)

    def load(rank):
        model = Counters(10)
        state = state_dict(model)
        planner = dcp.DefaultLoadPlanner(allow_partial_load=True)
        dcp.load(state, checkpoint_id=tmp_path / "saved", planner=planner)
        load_state_dict(model, state)
        return model.readings(), model.expert.item(), model.count.item()

    run_ranks(save, 2, tmp_path)
    shares = {1: (3,), 3: (1, 1, 1)}[readers]
    for rank, (read, expert, count) in enumerate(run_ranks(load, readers, tmp_path)):
        assert read == READ
        assert expert == (rank + 1.0 if rank < 2 else 11.0)
        assert count == shares[rank]


def test_a_checkpoint_without_this_rank_is_named():
    """A per-rank value that was never saved for this rank is an error, unless strict is off."""
    model = Counters(0)
    state = {**model.state_dict(), "expert@1": torch.tensor([5.0])}
    del state["expert"]
    with pytest.raises(
        tc.TorchCreatorError, match=r"(?s)'expert' for rank 0: it has expert@1.*strict=False"
    ):
        load_state_dict(model, state)
    load_state_dict(model, state, strict=False)
    assert model.expert.item() == 1.0


def test_a_plain_state_dict_loads_too():
    """A checkpoint that knows nothing of ranks is loaded as it is."""
    model, other = Counters(0), Counters(3)
    load_state_dict(model, other.state_dict())
    assert model.numbers() == other.numbers()


@pytest.mark.parametrize(
    ("name", "aggregation", "message"),
    [
        ("running_men", "mean", r"no buffer 'running_men' \(did you mean 'running_mean'\?\)"),
        ("num_batches_tracked", "mean", r"is torch\.int64, and its aggregation is to be MEAN"),
        ("running_mean", "average", r"Invalid variable aggregation mode: 'average'"),
    ],
    ids=["misspelt", "integers", "unknown"],
)
def test_a_wrong_buffer_policy_is_refused(name, aggregation, message):
    """The error names the buffer and the choices."""
    with pytest.raises(ValueError, match=message):
        aggregate_buffer(nn.BatchNorm1d(2), name, aggregation)


def test_alone_nothing_changes():
    """On one rank, without a process group, all of this is the identity."""
    model = Counters(0)
    before = model.numbers()
    synchronize(model)
    with synchronized(model):
        assert model.numbers() == before
    load_state_dict(model, state_dict(model))
    assert model.numbers() == before
