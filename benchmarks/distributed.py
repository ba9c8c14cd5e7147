"""What policies cost on two ranks, against the same step without them.

    python -m benchmarks.distributed            # about a minute on two cores
    python -m benchmarks.distributed small      # only the rows whose name contains a word

Both ranks run in lockstep, so the rounds are counted, not timed: in each, every contender takes
its turn, in an order that changes, and the fastest turn on the slower rank counts.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import torchcreator as tc
from benchmarks._measure import Ratio, print_table
from tests.ranks import run_ranks
from torchcreator.distributed import aggregate_gradients, data_parallel

RANKS = 2
Step = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One comparison: how to make our step and theirs, and how often to run both."""

    name: str
    ours: Callable[[], Step]
    theirs: Callable[[], Step]
    at_most: float
    rounds: int
    steps: int


class Small(nn.Module):
    """600 parameters of 64 elements."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ParameterList(nn.Parameter(torch.ones(64)) for _ in range(600))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Use every parameter once."""
        return torch.stack([(p * x).sum() for p in self.parts]).sum()


def mlp(width: int = 2500) -> nn.Module:
    """Return four layers: of 2,500 units, 25 million parameters."""
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(4)))


def in_thirds(make: Callable[[], nn.Module]) -> nn.Module:
    """Return the model with every third parameter SUM, MEAN and ONLY_FIRST_REPLICA."""
    policies = itertools.cycle(["sum", "mean", "only_first_replica"])

    def creator(next_creator: tc.NextCreator, **kwargs: Any) -> nn.Parameter:
        return next_creator(**{**kwargs, "aggregation": next(policies)})

    with tc.creator_scope(creator):
        return make()


def all_summed(make: Callable[[], nn.Module]) -> nn.Module:
    """Return the model with every parameter SUM."""

    def creator(next_creator: tc.NextCreator, **kwargs: Any) -> nn.Parameter:
        return next_creator(**{**kwargs, "aggregation": "sum"})

    with tc.creator_scope(creator):
        return make()


def step_of(model: nn.Module, x: torch.Tensor) -> Step:
    """Return one forward and backward."""

    def step() -> None:
        model.zero_grad()
        model(x).sum().backward()

    return step


def by_hand(model: nn.Module, x: torch.Tensor) -> Step:
    """Return a step that reduces each gradient after the backward, by its policy."""
    policies = ["sum", "mean", "only_first_replica"] * (len(list(model.parameters())) // 3 + 1)

    def step() -> None:
        model.zero_grad()
        model(x).sum().backward()
        for p, policy in zip(model.parameters(), policies, strict=False):
            assert p.grad is not None
            if policy == "only_first_replica":
                dist.broadcast(p.grad, src=0)
            else:
                dist.all_reduce(p.grad)
                if policy == "mean":
                    p.grad.div_(RANKS)

    return step


def aggregated(model: nn.Module) -> nn.Module:
    """Return the model with its policies in force where it stands."""
    aggregate_gradients(model)
    return model


def sharded(model: nn.Module) -> nn.Module:
    """Return the model in FSDP2, a shard group per layer."""
    for layer in model.children():
        fully_shard(layer)
    fully_shard(model)
    return model


def rows() -> list[Row]:
    """Return all comparisons."""
    vector, batch, narrow = torch.ones(64), torch.ones(8, 2500), torch.ones(8, 1000)
    ddp = DistributedDataParallel
    return [
        Row(
            "DDP step, 25M MLP, policies by thirds / plain DDP",
            lambda: step_of(data_parallel(in_thirds(mlp)), batch),
            lambda: step_of(ddp(mlp()), batch),
            at_most=1.03,
            rounds=18,
            steps=1,
        ),
        Row(
            "DDP step, 600 small tensors, policies by thirds / plain DDP",
            lambda: step_of(data_parallel(in_thirds(Small)), vector),
            lambda: step_of(ddp(Small()), vector),
            at_most=1.03,
            rounds=90,
            steps=3,
        ),
        Row(
            "DDP step, 600 small tensors, policies by thirds / a collective per parameter",
            lambda: step_of(data_parallel(in_thirds(Small)), vector),
            lambda: by_hand(Small(), vector),
            at_most=0.125,
            rounds=40,
            steps=1,
        ),
        Row(
            "plain module, 600 small tensors, aggregate_gradients / plain DDP",
            lambda: step_of(aggregated(in_thirds(Small)), vector),
            lambda: step_of(ddp(Small()), vector),
            at_most=1.35,
            rounds=60,
            steps=3,
        ),
        Row(
            "FSDP2 step, 4M MLP, SUM / FSDP2",
            lambda: step_of(aggregated(sharded(all_summed(lambda: mlp(1000)))), narrow),
            lambda: step_of(sharded(mlp(1000)), narrow),
            at_most=1.05,
            rounds=30,
            steps=1,
        ),
    ]


def measure(row: Row) -> tuple[float, float, float]:
    """Return the fastest turn of ours, of theirs, and of theirs once more."""
    contenders = [row.ours(), row.theirs(), row.theirs()]
    for step in contenders:
        for _ in range(3):  # DDP rebuilds its buckets after the first backward
            step()
    fastest = [float("inf")] * 3
    orders = itertools.cycle(itertools.permutations(range(3)))
    for _ in range(row.rounds):
        for turn in next(orders):
            dist.barrier()
            start = perf_counter()
            for _ in range(row.steps):
                contenders[turn]()
            fastest[turn] = min(fastest[turn], (perf_counter() - start) / row.steps)
    slower = torch.tensor(fastest, dtype=torch.float64)
    dist.all_reduce(slower, op=dist.ReduceOp.MAX)
    ours, theirs, again = slower.tolist()
    return ours, theirs, again


def main() -> None:
    """Measure the rows whose name contains the words given, and print them."""
    words = sys.argv[1:]

    def on_rank(rank: int) -> list[tuple[str, float, float, float, float]]:
        return [
            (row.name, *measure(row), row.at_most)
            for row in rows()
            if all(word in row.name for word in words)
        ]

    with tempfile.TemporaryDirectory() as meeting:
        measured, _ = run_ranks(on_rank, RANKS, Path(meeting), timeout=600)
    print_table(
        Ratio(name, ours, theirs, again / theirs, at_most)
        for name, ours, theirs, again, at_most in measured
    )


if __name__ == "__main__":
    main()
