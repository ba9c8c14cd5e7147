"""Build with `from_checkpoint`, against other ways to load: ``python -m benchmarks.checkpoint``.

The file is of 2 GiB, written once. accelerate and transformers load it where they are
installed, transformers a Llama of the same size.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import torchcreator as tc
from benchmarks import _memory
from benchmarks._measure import DEVICE, Pair, Question, SkipQuestion, Take, question
from benchmarks._models import llama_config, llama_of
from benchmarks._peers import peer
from benchmarks._run import main

GIB = float(os.environ.get("TORCHCREATOR_BENCHMARK_GIB", "2"))
WIDTH = 2048
LAYERS = max(1, int(GIB * 2**30 / (4 * WIDTH * WIDTH)))
WORK = f"`build` with `from_checkpoint`, {GIB:g} GiB"
THERE = f"{WORK}, straight onto the device"
LLAMA = f"`build(Llama)` with `from_checkpoint`, {GIB:g} GiB"

Way = Callable[[Path], nn.Module]


def model() -> nn.Module:
    """Return a model of that many matrices of 16 MiB."""
    return nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS))


def save(path: Path) -> None:
    """Write its values."""
    values = {f"{i}.weight": torch.randn(WIDTH, WIDTH) for i in range(LAYERS)}
    peer("safetensors.torch").save_file(values, path, metadata={"format": "pt"})


def built(path: Path) -> nn.Module:
    """Build it with its values from the file."""
    with tc.creator_scope(tc.creators.from_checkpoint(path)):
        return tc.build(model).to(DEVICE)


def from_a_seed(path: Path) -> nn.Module:
    """Build it from a seed, which nothing is drawn from."""
    with tc.creator_scope(tc.creators.from_checkpoint(path)):
        return tc.build(model, seed=0).to(DEVICE)


def assigned(path: Path) -> nn.Module:
    """Construct it on meta, and assign the file's tensors."""
    with torch.device("meta"):
        empty = model()
    empty.load_state_dict(peer("safetensors.torch").load_file(path), assign=True)
    return empty.to(DEVICE)


def copied(path: Path) -> nn.Module:
    """Construct it in the plain way, and copy the file's tensors into it."""
    full = model()
    full.load_state_dict(peer("safetensors.torch").load_file(path))
    return full.to(DEVICE)


def built_there(path: Path) -> nn.Module:
    """Build it on the device, with its values from the file."""
    with tc.creator_scope(tc.creators.from_checkpoint(path)):
        return tc.build(model, device=DEVICE, seed=0)


def loaded_there(path: Path) -> nn.Module:
    """Construct it on meta, and assign tensors that safetensors puts on the device."""
    with torch.device("meta"):
        empty = model()
    read = peer("safetensors.torch").load_file(path, device=str(DEVICE))
    empty.load_state_dict(read, assign=True)
    return empty


def through_pinned_memory(path: Path) -> nn.Module:
    """Construct it on meta, and send each tensor of the file through one pinned buffer."""
    if DEVICE.type == "cpu":
        raise SkipQuestion("pinned memory is for copies to another device")
    with torch.device("meta"):
        empty = model()
    read = peer("safetensors.torch").load_file(path)
    buffer = torch.empty(WIDTH, WIDTH, pin_memory=True)
    placed = {}
    for name, value in read.items():
        torch.cuda.current_stream().synchronize()  # the copy before may still read the buffer
        placed[name] = buffer.copy_(value).to(DEVICE, non_blocking=True)
    empty.load_state_dict(placed, assign=True)
    return empty


def accelerated(path: Path) -> nn.Module:
    """Do it accelerate's way."""
    accelerate = peer("accelerate")
    with accelerate.init_empty_weights():
        empty = model()
    place = {"": 0 if DEVICE.type == "cuda" else "cpu"}
    loaded: nn.Module = accelerate.load_checkpoint_and_dispatch(empty, str(path), device_map=place)
    return loaded


WAYS: dict[str, Way] = {"built": built, "assigned": assigned, "accelerated": accelerated}


FOLDER = tempfile.TemporaryDirectory()
"""Removed when the process ends."""


@functools.cache
def saved() -> Path:
    """Write the checkpoint, the first time it is needed, and return its path."""
    save(path := Path(FOLDER.name) / "model.safetensors")
    return path


def comparison(
    other: Way,
    *,
    against: str,
    work: str = WORK,
    ours: Way = built,
    at_most: float | None = None,
    seconds: float = 10.0,
    headline: bool = False,
) -> Question:
    """Return the question how a build compares with another way to load the same file."""

    def pair() -> Iterator[Pair]:
        yield functools.partial(ours, saved()), functools.partial(other, saved())

    return question(
        work,
        against=against,
        at_most=at_most,
        seconds=seconds,
        takes=2,
        threads=None,
        headline=headline,
    )(pair)


@question(LLAMA, against="transformers' `from_pretrained`", seconds=10.0, takes=2, threads=None)
def against_transformers() -> Iterator[Pair]:
    """Load a Llama with its own ``from_pretrained``, and with a build."""
    transformers = peer("transformers")
    transformers.utils.logging.disable_progress_bar()
    layer = 4 * WIDTH * WIDTH + 3 * WIDTH * 5632
    layers = max(1, int((GIB * 2**28 - 2 * 8000 * WIDTH) / layer))
    sizes = {"hidden_size": WIDTH, "intermediate_size": 5632, "vocab_size": 8000}
    config = llama_config(layers=layers, **sizes)
    with tempfile.TemporaryDirectory() as folder:
        made: Any = tc.build(llama_of, config)
        made.save_pretrained(folder)
        del made

        def ours() -> nn.Module:
            with tc.creator_scope(tc.creators.from_checkpoint(Path(folder))):
                return tc.build(llama_of, config).to(DEVICE)

        def theirs() -> nn.Module:
            loaded: nn.Module = transformers.LlamaForCausalLM.from_pretrained(folder)
            return loaded.to(DEVICE)

        yield ours, theirs


def load(way: str, path: str) -> nn.Module:
    """Load in one way, for the memory that it takes."""
    return WAYS[way](Path(path))


def memory(way: str, name: str, *, at_most: float | None = None) -> Question:
    """Return the question how much memory of its own a way to load takes, against the file."""

    def take(seconds: float) -> Take:
        rise = _memory.peak("benchmarks.checkpoint", "load", way, str(saved()))
        return Take(rise, GIB * 1024)

    return Question(
        f"memory of {name}",
        "the file's size",
        take,
        at_most,
        takes=1,
        unit="MiB",
    )


QUESTIONS = [
    comparison(assigned, against="meta, `load_file`, `assign=True`", at_most=1.3, seconds=15.0),
    comparison(from_a_seed, against="the same with `seed=…`", at_most=2.0),
    comparison(
        accelerated,
        against="accelerate's `load_checkpoint_and_dispatch`",
        at_most=1.0,
        headline=True,
    ),
    comparison(copied, against="plain construction and `load_state_dict`", seconds=1.0),
    comparison(
        loaded_there,
        against="meta, `load_file(device=…)`, `assign=True`",
        work=THERE,
        ours=built_there,
    ),
    comparison(
        through_pinned_memory, against="a copy through pinned memory", work=THERE, ours=built_there
    ),
    against_transformers,
    memory("built", WORK, at_most=32 / 1024 / GIB),
    memory("assigned", "meta, `load_file`, `assign=True`"),
    memory("accelerated", "accelerate's `load_checkpoint_and_dispatch`"),
]

if __name__ == "__main__":
    main(QUESTIONS)
