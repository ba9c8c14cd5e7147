"""How the time to make a model grows with the number of its parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
from torch import nn

import torchcreator as tc
from benchmarks._measure import Pair, Question, question
from benchmarks._run import main
from benchmarks.core import identity

COUNTS = (10, 100, 1_000, 10_000, 100_000)


def model(count: int) -> nn.Module:
    """Return a model of so many small parameters."""
    return nn.Sequential(*(nn.Linear(4, 4) for _ in range(count // 2)))


def in_a_scope(count: int) -> nn.Module:
    """Make it where a creator is asked for each parameter."""
    with tc.creator_scope(identity):
        return model(count)


def built(count: int) -> nn.Module:
    """Record it, and fill it from a seed."""
    return tc.build(model, count, seed=0)


def on_meta(count: int) -> nn.Module:
    """Make it empty, as one would without this library."""
    with torch.device("meta"):
        return model(count)


def asking(
    work: str,
    ours: Callable[[int], object],
    against: str,
    theirs: Callable[[int], object],
    count: int,
) -> Question:
    """Return the question at one size."""

    def pair() -> Iterator[Pair]:
        yield functools.partial(ours, count), functools.partial(theirs, count)

    return question(
        work,
        against=against,
        seconds=1.5,
        takes=1 if count > 10_000 else 2,
        size=count,
        brief=count in (10, 1_000, 10_000),
    )(pair)


QUESTIONS = [
    asked
    for count in COUNTS
    for asked in (
        asking("in a scope", in_a_scope, "plain", model, count),
        asking(
            "`tc.defer`",
            lambda count: tc.defer(model, count),
            '`torch.device("meta")`',
            on_meta,
            count,
        ),
        asking("`tc.build(seed=…)`", built, "plain", model, count),
    )
]

if __name__ == "__main__":
    main(QUESTIONS)
