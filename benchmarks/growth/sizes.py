"""How building a model grows with its bytes, on one core and on two."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import nn

import torchcreator as tc
from benchmarks._measure import Pair, Question, question
from benchmarks._run import main

SIZES = (16, 64, 256, 1024, 4096)
"""In MiB, of matrices of 16 MiB."""


def model(layers: int) -> nn.Module:
    """Return a model of that many matrices."""
    return nn.ModuleList(nn.Linear(2048, 2048, bias=False) for _ in range(layers))


def filled(size: int, way: str, seed: int | None, threads: int) -> Question:
    """Return the question how fast a model is built in which nothing is drawn twice."""

    def pair() -> Iterator[Pair]:
        make = functools.partial(model, size // 16)

        def ours() -> None:
            torch.set_num_threads(threads)
            tc.build(make, seed=seed)

        yield ours, make

    return question(
        f"`{way}`, {threads} thread{'s' * (threads > 1)}",
        against="plain construction",
        takes=1 if size > 1000 else 2,
        threads=None,
        size=size,
        brief=size < 1000,
    )(pair)


QUESTIONS = [
    filled(size, way, seed, threads)
    for size in SIZES
    for way, seed in (("tc.build", None), ("tc.build(seed=…)", 0))
    for threads in (1, 2)
]

if __name__ == "__main__":
    main(QUESTIONS)
