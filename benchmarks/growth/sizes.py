"""How filling and loading a model grow with its bytes, on one core and on two."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

import torchcreator as tc
from benchmarks._measure import Pair, Question, question
from benchmarks._peers import peer
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


def loaded(size: int) -> Question:
    """Return the question how fast values are loaded, at one size."""

    def pair() -> Iterator[Pair]:
        safetensors, layers = peer("safetensors.torch"), size // 16
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            safetensors.save_file(dict(model(layers).state_dict()), path)

            def ours() -> None:
                with tc.creator_scope(tc.creators.from_checkpoint(path)):
                    tc.build(model, layers)

            def theirs() -> None:
                with torch.device("meta"):
                    empty = model(layers)
                empty.load_state_dict(safetensors.load_file(path), assign=True)

            yield ours, theirs

    return question(
        "`tc.build` with `from_checkpoint`",
        against="meta, `load_file`, `assign=True`",
        takes=1 if size > 1000 else 2,
        threads=None,
        size=size,
        brief=size < 1000,
    )(pair)


QUESTIONS = [
    *(
        filled(size, way, seed, threads)
        for size in SIZES
        for way, seed in (("tc.build", None), ("tc.build(seed=…)", 0))
        for threads in (1, 2)
    ),
    *(loaded(size) for size in SIZES),
]

if __name__ == "__main__":
    main(QUESTIONS)
