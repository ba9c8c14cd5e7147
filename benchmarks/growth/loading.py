"""How loading a model grows with its bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

import torchcreator as tc
from benchmarks._measure import Pair, Question, question
from benchmarks._peers import peer
from benchmarks._run import main
from benchmarks.growth.sizes import SIZES, model


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


QUESTIONS = [loaded(size) for size in SIZES]

if __name__ == "__main__":
    main(QUESTIONS)
