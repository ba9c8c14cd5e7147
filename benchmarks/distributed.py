"""What policies cost on two ranks, under DDP and FSDP2: ``python -m benchmarks.distributed``.

Both ranks run in lockstep, so the rounds are counted, not timed: in each, every contender takes
its turn, in an order that changes, and the fastest turn on the slower rank counts.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import torchcreator as tc
from benchmarks._measure import ORDERS, Question, Take
from benchmarks._run import main
from tests.support.ranks import run_ranks
from torchcreator._optim.hook import before_step
from torchcreator.distributed import aggregate_gradients, data_parallel

RANKS = 2
Step = Callable[[], object]


class Small(nn.Module):
    """600 parameters of 64 elements, or as many as are asked for."""

    def __init__(self, count: int = 600, size: int = 64) -> None:
        super().__init__()
        self.parts = nn.ParameterList(nn.Parameter(torch.ones(size)) for _ in range(count))

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


def thousand_stepped() -> torch.optim.Optimizer:
    """Return the optimizer of a DDP of 1,000 summed parameters, after its first step."""
    model = data_parallel(all_summed(lambda: Small(1000, 8)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, foreach=True)
    model(torch.ones(8)).backward()
    optimizer.step()
    # The optimizer holds the parameters, and these are reduced only while the DDP is there.
    optimizer.__dict__["model"] = model
    return optimizer


def audited() -> Step:
    """Return what runs before each step."""
    return functools.partial(before_step, thousand_stepped(), (), {})


def stepped() -> Step:
    """Return the whole step, what runs before it included."""
    return thousand_stepped().step


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


def measure(
    make_ours: Callable[[], Step], make_theirs: Callable[[], Step], *, rounds: int, steps: int
) -> Take:
    """Return the fastest turn of ours, of theirs, and of theirs once more, on this rank's group."""
    contenders = [make_ours(), make_theirs(), make_theirs()]
    for step in contenders:
        for _ in range(3):  # DDP rebuilds its buckets after the first backward
            step()
    fastest = [float("inf")] * 3
    orders = itertools.cycle(ORDERS)
    for _ in range(rounds):
        for turn in next(orders):
            dist.barrier()
            start = perf_counter()
            for _ in range(steps):
                contenders[turn]()
            fastest[turn] = min(fastest[turn], (perf_counter() - start) / steps)
    slower = torch.tensor(fastest, dtype=torch.float64)
    dist.all_reduce(slower, op=dist.ReduceOp.MAX)
    return Take(*slower.tolist())


def on_ranks(
    work: str,
    *,
    against: str,
    ours: Callable[[], Step],
    theirs: Callable[[], Step],
    at_most: float | None,
    round_seconds: float,
    seconds: float = 12.0,
    steps: int = 1,
    ranks: int = RANKS,
    headline: bool = False,
    size: float | None = None,
) -> Question:
    """Return a question that is asked on ranks of its own.

    Args:
        work: What is done.
        against: Who else does it.
        ours: Makes our step, on each rank.
        theirs: Makes theirs.
        at_most: The ratio that is promised.
        round_seconds: How long one round takes on two cores, to count the rounds by.
        seconds: How long to measure, in all takes.
        steps: How many steps make one sample.
        ranks: On how many ranks.
        headline: Whether the README shows it.
        size: Where on a curve of growth it stands.
    """

    def take(budget: float) -> Take:
        rounds = max(3, round(budget / round_seconds))
        with tempfile.TemporaryDirectory() as meeting:
            takes = run_ranks(
                lambda rank: measure(ours, theirs, rounds=rounds, steps=steps),
                ranks,
                Path(meeting),
                timeout=300,
            )
        first: Take = takes[0]
        return first

    return Question(work, against, take, at_most, seconds, headline=headline, size=size)


VECTOR, BATCH, NARROW = torch.ones(64), torch.ones(8, 2500), torch.ones(8, 1000)
DDP = DistributedDataParallel
THIRDS = "policies by thirds"
SMALL = f"DDP step, 600 tensors of 64, {THIRDS}"

QUESTIONS = [
    on_ranks(
        f"DDP step, MLP of 25 million, {THIRDS}",
        against="plain DDP",
        ours=lambda: step_of(data_parallel(in_thirds(mlp)), BATCH),
        theirs=lambda: step_of(DDP(mlp()), BATCH),
        at_most=1.03,
        round_seconds=0.7,
        seconds=30.0,
        headline=True,
    ),
    on_ranks(
        SMALL,
        against="plain DDP",
        ours=lambda: step_of(data_parallel(in_thirds(Small)), VECTOR),
        theirs=lambda: step_of(DDP(Small()), VECTOR),
        at_most=1.03,
        steps=3,
        round_seconds=0.2,
        seconds=18.0,
    ),
    on_ranks(
        SMALL,
        against="a collective per parameter",
        ours=lambda: step_of(data_parallel(in_thirds(Small)), VECTOR),
        theirs=lambda: by_hand(Small(), VECTOR),
        at_most=0.125,
        round_seconds=0.5,
    ),
    on_ranks(
        f"`aggregate_gradients` without DDP, 600 tensors of 64, {THIRDS}",
        against="plain DDP",
        ours=lambda: step_of(aggregated(in_thirds(Small)), VECTOR),
        theirs=lambda: step_of(DDP(Small()), VECTOR),
        at_most=1.35,
        steps=3,
        round_seconds=0.2,
    ),
    on_ranks(
        "FSDP2 step, MLP of 4 million, all SUM",
        against="plain FSDP2",
        ours=lambda: step_of(aggregated(sharded(all_summed(lambda: mlp(1000)))), NARROW),
        theirs=lambda: step_of(sharded(mlp(1000)), NARROW),
        at_most=1.05,
        round_seconds=0.2,
    ),
    on_ranks(
        "the audit before a step of 1,000 summed parameters",
        against="the optimizer's whole step",
        ours=audited,
        theirs=stepped,
        at_most=0.02,
        steps=50,
        round_seconds=0.2,
    ),
]

if __name__ == "__main__":
    main(QUESTIONS)
