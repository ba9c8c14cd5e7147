"""What `build` costs against plain construction: ``python -m benchmarks.build``.

GPT-2 and the Llama shape need transformers.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator

import torch.distributed as dist
from torch import nn

import torchcreator as tc
from benchmarks import _memory, _models
from benchmarks._floor import bare_draws, drawn
from benchmarks._measure import Pair, Question, Take, Work, question
from benchmarks._models import Factory, placed
from benchmarks._peers import peer
from benchmarks._run import main


def seeded(factory: Factory) -> nn.Module:
    """Build from a seed, a thread per core."""
    return tc.build(factory, seed=0)


def refused(factory: Factory, *, seed: int | None = None) -> nn.Module:
    """Build with a creator that answers every variable itself, on meta."""
    with tc.creator_scope(tc.creators.meta()):
        return tc.build(factory, seed=seed)


WAYS: dict[str, Callable[[Factory], nn.Module]] = {
    "plain": lambda factory: factory(),
    "exact": tc.build,
    "seeded": seeded,
    "deferred": tc.defer,
    "refused": refused,
}


def fabric(factory: Factory) -> Work:
    """Return a construction in Lightning's scope, which leaves out `torch.nn.init`."""
    made = peer("lightning.fabric").Fabric(accelerator="cpu", devices=1)

    def theirs() -> None:
        with made.init_module(empty_init=True):
            factory()

    return theirs


def zero_init(factory: Factory) -> Work:
    """Return a construction in DeepSpeed's scope, which splits each module once it is made."""
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_SIZE="1")  # it reads them
    deepspeed = peer("deepspeed")
    if not dist.is_initialized():
        meeting = f"file://{tempfile.mkdtemp()}/meeting"
        dist.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
        deepspeed.init_distributed("gloo", auto_mpi_discovery=False)

    def theirs() -> None:
        with deepspeed.zero.Init():
            factory()

    return theirs


def floor(factory: Factory) -> Work:
    """Return a construction that is recorded by nobody, and filled with one draw each."""
    return functools.partial(drawn, factory)


def plain(factory: Factory) -> Work:
    """Return plain construction."""
    return factory


def refused_from_a_seed(factory: Factory) -> Work:
    """Return a build from a seed in which all is refused."""
    return functools.partial(refused, factory, seed=0)


def comparison(
    work: str,
    way: str,
    factory: Factory,
    other: Callable[[Factory], Work] = plain,
    *,
    against: str = "plain construction",
    at_most: float | None = None,
    seconds: float = 12.0,
    headline: bool = False,
) -> Question:
    """Return the question how one way to build a model compares with another."""

    def pair() -> Iterator[Pair]:
        make = placed(factory)
        factory()  # what it imports, and whether it is there
        yield functools.partial(WAYS[way], make), other(make)

    return question(
        work,
        against=against,
        at_most=at_most,
        seconds=seconds,
        takes=2,
        threads=None,
        headline=headline,
    )(pair)


def make(model: str, way: str) -> nn.Module:
    """Make a model, for the memory that it takes."""
    return WAYS[way](getattr(_models, model))


def memory(work: str, way: str, model: str, *, mib: float, at_most: float | None) -> Question:
    """Return the question how far a build raises memory, against the size of the parameters."""

    def take(seconds: float) -> Take:
        return Take(_memory.peak("benchmarks.build", "make", model, way), mib)

    return Question(work, "its parameters", take, at_most, takes=1, threads=None, unit="MiB")


GPT2, LLAMA, LINEARS = _models.gpt2, _models.llama, _models.linears
EXACT = "`build(GPT2)`, a thread per core"

QUESTIONS = [
    comparison(EXACT, "exact", GPT2, at_most=0.28, headline=True),
    comparison(EXACT, "exact", GPT2, fabric, against="Fabric `init_module(empty_init=True)`"),
    comparison("`build(Llama 12 × 768)`", "exact", LLAMA, at_most=0.40),
    comparison("`build(ViT)`", "exact", _models.vit),
    comparison("`build(24 × Linear(2048, 2048))`", "exact", _models.wide, at_most=0.62),
    comparison("`build` of one embedding, 2 GiB", "exact", _models.embedding, at_most=0.62),
    comparison("`build(300 × Linear(16, 16))`", "exact", LINEARS, at_most=4.0, seconds=4.0),
    comparison(
        "`build(24 × Linear(2048, 2048))` when creators refuse all",
        "refused",
        _models.wide,
        refused_from_a_seed,
        against="the same with `seed=…`",
        at_most=2.0,
        seconds=4.0,
    ),
    comparison("`build(GPT2, seed=…)`", "seeded", GPT2, at_most=0.36),
    comparison("`build(Llama 12 × 768, seed=…)`", "seeded", LLAMA, at_most=0.40),
    comparison(
        "`build(Llama 12 × 768, seed=…)`",
        "seeded",
        LLAMA,
        bare_draws,
        against="its draws alone, a thread per core: the floor",
    ),
    comparison("`build(ViT, seed=…)`", "seeded", _models.vit),
    comparison("`build(24 × Linear(2048, 2048), seed=…)`", "seeded", _models.wide, at_most=0.62),
    comparison(
        "`build` of one embedding, 2 GiB, `seed=…`", "seeded", _models.embedding, at_most=0.60
    ),
    comparison(
        "`build(300 × Linear(16, 16), seed=…)`", "seeded", LINEARS, at_most=4.0, seconds=4.0
    ),
    comparison(
        "`build(300 × Linear(16, 16), seed=…)`",
        "seeded",
        LINEARS,
        floor,
        against="two modes that only note each call, and a seeded draw: the floor",
        seconds=4.0,
    ),
    memory("memory of `build(GPT2)`", "exact", "gpt2", mib=474.7, at_most=None),
    memory("memory of `build(GPT2, seed=…)`", "seeded", "gpt2", mib=474.7, at_most=None),
    memory(
        "memory of `build(GPT2)` when creators refuse all",
        "refused",
        "gpt2",
        mib=474.7,
        at_most=0.01,
    ),
    memory(
        "memory of `defer` of a Llama of 1e9 parameters",
        "deferred",
        "llama_1b",
        mib=4028.0,
        at_most=0.01,
    ),
    # The last one, as it leaves a process group.
    comparison(EXACT, "exact", GPT2, zero_init, against="DeepSpeed `zero.Init`"),
]

if __name__ == "__main__":
    main(QUESTIONS)
