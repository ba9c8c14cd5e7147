"""What is asked of a device, in order of worth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks._process import CHECKOUT

TESTS = "tests/device"
"""Where tests lie that run on each device that there is."""


@dataclass(frozen=True)
class Questions:
    """Rows of the speed table: those of a file that contain all the words.

    Attributes:
        file: The file.
        words: The words.
        share: How much of the part's time they take, beside the others' shares.
    """

    file: str
    words: tuple[str, ...] = ()
    share: float = 1.0


@dataclass(frozen=True)
class Part:
    """What runs in a process of its own, or in several, one after the other.

    Attributes:
        letter: Its place in the order.
        title: What it is about.
        minutes: How long it may take, all in all; less if less is left.
        tests: Files of tests.
        marks: Which of them, as pytest's ``-m`` wants it.
        questions: Rows of the speed table, asked after the tests.
        off_cuda: What a run without CUDA leaves out, or puts in its place.
    """

    letter: str
    title: str
    minutes: float
    tests: tuple[str, ...] = ()
    marks: str = "cuda or not cuda"
    questions: tuple[Questions, ...] = ()
    off_cuda: str = ""


def marked(root: Path = CHECKOUT / "tests") -> Iterable[str]:
    """Yield the files outside of the parts that have tests marked ``cuda``."""
    for path in sorted(root.rglob("test_*.py")):
        if path.parent.name != "device" and "mark.cuda" in path.read_text():
            yield path.relative_to(root.parent).as_posix()


def tests(name: str) -> tuple[str, ...]:
    """Return the one file of tests that a part has."""
    return (f"{TESTS}/test_{name}.py",)


PARTS = (
    Part(
        "a",
        "tests marked cuda",
        1.0,
        tuple(marked()),
        "cuda",
        off_cuda="skips every one of them: each needs CUDA",
    ),
    Part(
        "b",
        "NCCL, and gloo beside it",
        1.5,
        tests("groups"),
        off_cuda="takes gloo for NCCL, and two gloo groups for one of each",
    ),
    Part(
        "c",
        "build, defer, materialize",
        1.5,
        (*tests("build"), *tests("parts")),
        off_cuda="leaves out streams, memory of the device, and its first use in a process",
    ),
    Part(
        "d",
        "from_checkpoint",
        1.0,
        tests("checkpoint"),
        questions=(Questions("checkpoint", ("straight onto the device",)),),
        off_cuda="leaves out pinned memory, and takes a smaller file",
    ),
    Part(
        "e",
        "constraints",
        1.0,
        tests("constraints"),
        off_cuda="leaves out capturable optimizers, graphs, and waiting for the device",
    ),
    Part("f", "caching_device", 0.5, tests("caching"), off_cuda="copies from the CPU to the CPU"),
    Part("g", "a compiled step", 1.5, tests("compiled"), off_cuda="compiles C++, not Triton"),
    Part("i", "inspect and fakes", 0.5, tests("inspected"), off_cuda="describes no real GPU"),
    Part(
        "h",
        "the speed table",
        8.0,
        questions=(
            Questions("build", share=6),
            Questions("constraints", share=2),
            Questions("stock_modules"),
            Questions("core"),
            Questions("lookup"),
            Questions("defer"),
        ),
        off_cuda="times the CPU",
    ),
)
"""The speed table comes last: it takes whatever time is left."""
