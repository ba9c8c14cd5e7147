"""Per-rank values brought together: for good, for a block, and in checkpoints."""

from __future__ import annotations

import contextlib
import copy
import io

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.distributed.counters import READ, Counters
from tests.support.ranks import scenes
from torchcreator.distributed import (
    aggregate_buffer,
    data_parallel,
    load_state_dict,
    state_dict,
    synchronize,
    synchronized,
)


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
    return scenes(SCENARIOS, 2, tmp_path_factory.mktemp("ranks"))


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
