"""A long training run with policies and constraints leaves the process as it was after warm-up.

``TORCHCREATOR_SOAK_STEPS=10000 pytest tests/hardening/test_soak.py`` is the full form.
"""

from __future__ import annotations

import copy
import gc
import io
import os
import sys

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.hardening.test_leaks import resident, tables
from tests.support.ranks import run_ranks

STEPS = int(os.environ.get("TORCHCREATOR_SOAK_STEPS", "1000"))
OBJECTS = 60
"""What Python's own caches move by. One object for each step would be thousands."""
GROWTH = 4 * 2**20
"""Bytes by which an allocator's plateau moves, seen without this library. What a step makes, a
tensor of 100 bytes and its object of 500, would come to 6 MiB in 10,000 steps."""

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")
CONSTRAINTS = {
    "0.weight": tc.constraints.MaxNorm(1.0) & tc.constraints.NonNeg(),
    "0.bias": "non_neg",
    "2.weight": tc.constraints.Orthogonal(),
    "2.bias": torch.tanh,
}
AGGREGATIONS = {"0.weight": "sum", "0.bias": "mean", "2.weight": "only_first_replica"}


def declared(next_creator, **kwargs):
    """Give each parameter what its name is to have."""
    name = kwargs["name"]
    kwargs["constraint"] = CONSTRAINTS.get(name)
    kwargs["aggregation"] = AGGREGATIONS.get(name, kwargs["aggregation"])
    return next_creator(**kwargs)


class Counting(nn.Module):
    """Counts the rows it has seen, on each rank its own, and has a mean that is held elsewhere."""

    def __init__(self):
        super().__init__()
        self.seen = tc.variable(0, name="seen", synchronization="on_read", aggregation="sum")
        self.scale = tc.variable([1.0] * 8, name="scale", caching_device="cpu")

    def forward(self, x):
        tc.assign_add(self.seen, len(x))
        return x * tc.read_value(self.scale)


def make():
    return nn.Sequential(nn.Linear(6, 8), Counting(), nn.Linear(8, 4))


def trainer(model, trained):
    """Return what makes one step, and every so often does what training scripts do besides."""
    optimizer = torch.optim.AdamW(tc.param_groups(trained), lr=1e-2)
    x, number = torch.randn(16, 6), 0

    def step():
        nonlocal number
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        number += 1
        if number % 100 == 0:
            average = copy.deepcopy(trained)
            tc.apply_constraints(average)
            saved = io.BytesIO()
            torch.save(average.state_dict(), saved)
            saved.seek(0)
            average.load_state_dict(torch.load(saved), assign=True)
            assert len(list(tc.named_specs(average))) == 6

    return step


def growth(step, warm_up, steps):
    """Return by how many objects, tables and bytes a process grows in so many steps."""
    for _ in range(warm_up):
        step()
    gc.collect()
    before, objects, size = tables(), len(gc.get_objects()), resident()
    for _ in range(steps):
        step()
    gc.collect()
    return len(gc.get_objects()) - objects, tables() == before, resident() - size


@needs_proc
@pytest.mark.slow
def test_many_steps_leave_memory_flat():
    """Many steps with constraints, copies and checkpoints leave no object and no byte."""
    with tc.creator_scope(declared):
        model = tc.build(make, seed=0)
    objects, same_tables, size = growth(trainer(model, model), 400, STEPS)
    assert objects < OBJECTS
    assert same_tables
    assert size < GROWTH
    assert model[1].seen.item() == 16 * (STEPS + 400)
    assert model[0].weight.min() >= 0
    assert model[0].weight.norm(dim=1).max() <= 1.0001


@needs_proc
@pytest.mark.slow
def test_many_steps_on_two_ranks_leave_memory_flat(tmp_path):
    """The same holds on each of two ranks in `data_parallel`, and they end up equal."""
    steps = STEPS // 5

    def rank_main(rank):
        torch.manual_seed(rank)
        with tc.creator_scope(declared):
            model = tc.build(make, seed=0)
        replicas = tc.distributed.data_parallel(model)
        grown = growth(trainer(replicas, model), 200, steps)
        seen = tc.read_value(model[1].seen).item()
        del replicas
        return *grown, seen, model[2].weight.tolist()

    (*first, seen, weights), (*second, _, others) = run_ranks(rank_main, 2, tmp_path, timeout=150)
    for objects, same_tables, size in (first, second):
        assert objects < OBJECTS
        assert same_tables
        assert size < GROWTH
    assert seen == 2 * 16 * (steps + 200)
    assert weights == others
