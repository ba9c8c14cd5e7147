"""What `defer` costs against empty construction by others: ``python -m benchmarks.defer``.

GPT-2 and the Llama shape need transformers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

import torchcreator as tc
from benchmarks._floor import noted
from benchmarks._measure import Pair, Question, Work, question
from benchmarks._models import Factory, gpt2, linears, llama, on_meta
from benchmarks._peers import peer
from benchmarks._run import main


def meta(factory: Factory) -> Work:
    """Return a construction under torch's own scope."""
    return functools.partial(on_meta, factory)


def meta_initialised(factory: Factory) -> Work:
    """Return a construction under torch's scope that does not leave out the initialisation.

    transformers leaves it out when it sees that the device is meta, and then makes no call that
    could be recorded.
    """

    def theirs() -> None:
        model: Any = on_meta(factory)
        with torch.device("meta"):
            model.initialize_weights()

    return theirs


def floor(factory: Factory) -> Work:
    """Return a construction under two modes that only note each call."""
    return functools.partial(noted, factory)


def empty_weights(factory: Factory) -> Work:
    """Return a construction in accelerate's scope."""
    accelerate = peer("accelerate")

    def theirs() -> None:
        with accelerate.init_empty_weights():
            factory()

    return theirs


def comparison(
    work: str,
    factory: Factory,
    other: Callable[[Factory], Work] = meta,
    *,
    against: str = '`torch.device("meta")`',
    at_most: float | None = None,
    headline: bool = False,
) -> Question:
    """Return the question how deferring a model compares with another way not to fill it."""

    def pair() -> Iterator[Pair]:
        on_meta(factory)  # what it imports, and whether it is there
        yield functools.partial(tc.defer, factory), other(factory)

    return question(
        work, against=against, at_most=at_most, seconds=6.0, threads=None, headline=headline
    )(pair)


ACCELERATE = "`accelerate.init_empty_weights`"
INITIALISED = '`torch.device("meta")`, its initialisation not left out'
FLOOR = "two modes that only note each call: the floor of any recorder"

QUESTIONS = [
    comparison("`defer(GPT2)`", gpt2, at_most=1.2, headline=True),
    comparison("`defer(GPT2)`", gpt2, empty_weights, against=ACCELERATE),
    comparison("`defer(Llama 12 × 768)`", llama, at_most=1.2),
    comparison("`defer(Llama 12 × 768)`", llama, meta_initialised, against=INITIALISED),
    comparison("`defer(Llama 12 × 768)`", llama, floor, against=FLOOR),
    comparison("`defer(300 × Linear(16, 16))`", linears, at_most=1.2),
    comparison("`defer(300 × Linear(16, 16))`", linears, floor, against=FLOOR),
    comparison("`defer(300 × Linear(16, 16))`", linears, empty_weights, against=ACCELERATE),
]

if __name__ == "__main__":
    main(QUESTIONS)
