"""How an optimizer's step grows with the number of parameters under a constraint."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

import torchcreator as tc
from benchmarks._measure import Pair, Question, question
from benchmarks._run import main

COUNTS = (10, 100, 1_000, 10_000, 100_000)


def parameters(count: int, constraint: str | None = None) -> list[nn.Parameter]:
    """Return so many small parameters with gradients."""
    made = [tc.variable(torch.rand(16), constraint=constraint) for _ in range(count)]
    for p in made:
        p.grad = torch.zeros_like(p)
    return made


def at(count: int) -> Question:
    """Return the question at one size."""

    def pair() -> Iterator[Pair]:
        free = parameters(count)
        step = torch.optim.SGD(free, lr=0.01).step

        def by_hand() -> None:
            step()
            with torch.no_grad():
                torch._foreach_clamp_min_(tuple(free), 0)

        yield torch.optim.SGD(parameters(count, "non_neg"), lr=0.01).step, by_hand

    return question(
        'declared: `constraint="non_neg"`',
        against="`torch._foreach_clamp_min_` by hand",
        takes=2,
        size=count,
        brief=count in (10, 1_000, 10_000),
    )(pair)


QUESTIONS = [at(count) for count in COUNTS]

if __name__ == "__main__":
    main(QUESTIONS)
