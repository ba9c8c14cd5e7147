"""The one way this project measures: fastest over fastest, taken in turns, noise beside it."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter, thread_time

import torch

Work = Callable[[], object]
Clock = Callable[[], float]
Pair = tuple[Work, Work]
"""Ours and theirs, ready to run."""

SAMPLE_SECONDS = 5e-4
"""What one timed sample should last: far above the clock's step, and below the slice of time that
a busy machine gives, or no sample would be free of other processes."""
CACHED_SECONDS = 20e-3
"""Work that takes longer overruns the caches by itself: who ran before it makes no difference."""

DEVICE = torch.device(os.environ.get("TORCHCREATOR_BENCHMARK_DEVICE", "cpu"))
"""Where questions that are about tensors put them."""

ORDERS = ((0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (1, 0, 2), (0, 2, 1))
"""Turns of one round each. Three rounds give everyone every place, six every neighbour as well."""


class SkipQuestion(Exception):  # noqa: N818 (it is no error)
    """Raised by a question that cannot be asked here; its text says why."""


@dataclass(frozen=True)
class Take:
    """One measurement, of objects made for it.

    Attributes:
        ours: Our fastest run.
        theirs: Their fastest run.
        again: Theirs once more, as a third party; None where that makes no sense (memory).
    """

    ours: float
    theirs: float
    again: float | None = None


@dataclass(frozen=True)
class Question:
    """What is compared with what, and how to find out.

    Attributes:
        work: What is done.
        against: Who else does it.
        take: Makes both sides anew and measures them, for about so many seconds.
        at_most: The ratio that is promised; None where nothing is.
        seconds: How long all takes together should measure; what takes longer runs three times.
        takes: How often to start over. Where objects lie in memory moves a figure by some per cent,
            so that one take, however long, does not say how far another will differ.
        threads: What ``torch.set_num_threads`` gets; None for one per core. Work on one thread is
            timed by the processor time of that thread, all other work by the clock on the wall.
        unit: "s", or "MiB".
        headline: Whether the README shows it.
        size: Where on a curve it stands, for questions about growth.
        brief: Whether a quick run asks it too.
    """

    work: str
    against: str
    take: Callable[[float], Take]
    at_most: float | None = None
    seconds: float = 2.0
    takes: int = 3
    threads: int | None = 1
    unit: str = "s"
    headline: bool = False
    size: float | None = None
    brief: bool = True


@dataclass(frozen=True)
class Ratio:
    """How much our way to do some work takes, divided by what another way takes.

    Attributes:
        work: What was done.
        against: By whom else.
        ours: The least that ours took.
        theirs: The least that theirs took.
        low: The smallest ratio of any take.
        high: The largest.
        noise: The same function against itself. A ratio that differs from 1 by less than this one
            does says nothing.
        at_most: The ratio that is promised.
        unit: Of ``ours`` and ``theirs``.
        size: Where on a curve it stands.
    """

    work: str
    against: str
    ours: float
    theirs: float
    low: float
    high: float
    noise: float | None = None
    at_most: float | None = None
    unit: str = "s"
    size: float | None = None

    @property
    def ratio(self) -> float:
        """Ours over theirs; below 1, ours is better."""
        return self.ours / self.theirs


def question(
    work: str,
    *,
    against: str,
    at_most: float | None = None,
    seconds: float = 2.0,
    takes: int = 3,
    threads: int | None = 1,
    headline: bool = False,
    size: float | None = None,
    brief: bool = True,
) -> Callable[[Callable[[], Iterator[Pair]]], Question]:
    """Make a question of a generator that sets both sides up, yields them, and tidies up."""

    def made(prepare: Callable[[], Iterator[Pair]]) -> Question:
        return Question(
            work,
            against,
            functools.partial(_prepared, prepare, clock_for(threads)),
            at_most,
            seconds,
            takes,
            threads,
            headline=headline,
            size=size,
            brief=brief,
        )

    return made


def ask(asked: Question, *, quick: bool = False) -> Ratio:
    """Measure what a question asks.

    Args:
        asked: The question.
        quick: Take a quarter of the time, in two takes: to see that all runs, and the rough size.
    """
    torch.set_num_threads(asked.threads or os.cpu_count() or 1)
    count = min(asked.takes, 2) if quick else asked.takes
    seconds = asked.seconds / asked.takes / (4 if quick else 1)
    takes = [asked.take(seconds) for _ in range(count)]
    ratios = [take.ours / take.theirs for take in takes]
    theirs = min(take.theirs for take in takes)
    again = [take.again for take in takes if take.again is not None]
    return Ratio(
        asked.work,
        asked.against,
        ours=min(take.ours for take in takes),
        theirs=theirs,
        low=min(ratios),
        high=max(ratios),
        noise=min(again) / theirs if again else None,
        at_most=asked.at_most,
        unit=asked.unit,
        size=asked.size,
    )


def clock_for(threads: int | None) -> Clock:
    """Return the clock for work on so many threads.

    The processor time of a thread stands still while other processes have its core.
    """
    return thread_time if threads == 1 and DEVICE.type == "cpu" else perf_counter


def timed(ours: Work, theirs: Work, seconds: float, clock: Clock = perf_counter) -> Take:
    """Time two functions in turns, and the second one a second time, as a third party.

    The fastest run is the one that other processes disturbed least, and taking turns, in an order
    that changes each round, lets neither gain from a warm cache or a clock that slows down.
    """
    contenders = (ours, theirs, theirs)
    first, second = calls_per_sample(ours, clock), calls_per_sample(theirs, clock)
    return Take(*_fastest(contenders, (first, second, second), seconds, clock))


def calls_per_sample(work: Work, clock: Clock = perf_counter) -> int:
    """Return how many calls make one sample long enough to time, warming ``work`` up on the way."""
    work()  # may import, compile, and fill caches
    calls = 1
    while (spent := _sample(work, calls, clock)) < SAMPLE_SECONDS:
        calls *= 2 if spent <= 0 else max(2, min(10, int(SAMPLE_SECONDS / spent) + 1))
    return calls


def _prepared(prepare: Callable[[], Iterator[Pair]], clock: Clock, seconds: float) -> Take:
    """Time the pair that a generator yields, and let the generator end."""
    with contextlib.contextmanager(prepare)() as (ours, theirs):
        return timed(ours, theirs, seconds, clock)


def _fastest(
    contenders: Sequence[Work], calls: Sequence[int], seconds: float, clock: Clock
) -> list[float]:
    """Return each contender's fastest time for one call."""
    fastest = [float("inf")] * len(contenders)
    end = perf_counter() + seconds
    for number, order in enumerate(itertools.cycle(ORDERS)):
        if number >= 3 and perf_counter() >= end:
            break
        for turn in order:
            if calls[turn] == 1 and fastest[turn] < CACHED_SECONDS:
                # Theirs is there twice, and would find its data in the caches more often.
                contenders[turn]()
            spent = _sample(contenders[turn], calls[turn], clock) / calls[turn]
            fastest[turn] = min(fastest[turn], spent)
    return fastest


def _sample(work: Work, calls: int, clock: Clock) -> float:
    """Return the seconds that ``calls`` calls take, with the garbage collector held back."""
    collecting = gc.isenabled()
    gc.collect(0)
    gc.disable()
    try:
        _finish()
        start = clock()
        for _ in range(calls):
            work()
        _finish()
        return clock() - start
    finally:
        if collecting:
            gc.enable()


def _finish() -> None:
    """Wait for what the device has still to do."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize(DEVICE)
