"""The one way this project measures: fastest over fastest, taken in turns, noise beside it."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter

Work = Callable[[], object]

SAMPLE_SECONDS = 2e-3
"""What one timed sample should last: far above the clock's step, far below a scheduler's pause."""


@dataclass(frozen=True)
class Ratio:
    """How long one piece of work takes, divided by how long another does.

    Attributes:
        name: What was measured.
        ours: The fastest run of ours, in seconds.
        theirs: The fastest run of what it is measured against, in seconds.
        noise: The same function against itself in the same run; None where not taken. A ratio
            that differs from 1 by less than this one does says nothing.
        at_most: The ratio that is promised; None where nothing is.
    """

    name: str
    ours: float
    theirs: float
    noise: float | None = None
    at_most: float | None = None

    @property
    def ratio(self) -> float:
        """Ours over theirs; below 1, ours is faster."""
        return self.ours / self.theirs


def compare(
    name: str,
    ours: Work,
    theirs: Work,
    *,
    self_check: bool = True,
    seconds: float = 2.0,
    at_most: float | None = None,
) -> Ratio:
    """Time two functions in turns and divide the fastest run of one by that of the other.

    The fastest run is the one that other processes disturbed least, and taking turns, in an order
    that changes each round, lets neither gain from a warm cache or a clock that slows down.

    Args:
        name: What is measured, for the table.
        ours: A function without arguments: our way to do the work.
        theirs: The same work, done another way.
        self_check: Also time ``theirs`` as a third party, against itself: the noise.
        seconds: How long to measure, calibration left out.
        at_most: The ratio that is promised.
    """
    contenders = [ours, theirs, theirs] if self_check else [ours, theirs]
    calls = [calls_per_sample(work) for work in contenders[:2]]
    calls = [*calls, *calls[1:]] if self_check else calls
    fastest = _fastest(contenders, calls, seconds)
    noise = fastest[2] / fastest[1] if self_check else None
    return Ratio(name, fastest[0], fastest[1], noise, at_most)


def calls_per_sample(work: Work) -> int:
    """Return how many calls make one sample long enough to time, warming ``work`` up on the way."""
    calls = 1
    while (spent := _sample(work, calls)) < SAMPLE_SECONDS:
        calls *= 2 if spent == 0 else max(2, min(10, int(SAMPLE_SECONDS / spent) + 1))
    return calls


def _fastest(contenders: list[Work], calls: list[int], seconds: float) -> list[float]:
    """Return each contender's fastest time for one call; every order of turns comes round."""
    fastest = [float("inf")] * len(contenders)
    orders = itertools.cycle(itertools.permutations(range(len(contenders))))
    end = perf_counter() + seconds
    rounds = 0
    while perf_counter() < end or rounds < 6:
        for turn in next(orders):
            spent = _sample(contenders[turn], calls[turn]) / calls[turn]
            fastest[turn] = min(fastest[turn], spent)
        rounds += 1
    return fastest


def _sample(work: Work, calls: int) -> float:
    """Return the seconds that ``calls`` calls take, with the garbage collector held back."""
    collecting = gc.isenabled()
    gc.collect(0)
    gc.disable()
    try:
        start = perf_counter()
        for _ in range(calls):
            work()
        return perf_counter() - start
    finally:
        if collecting:
            gc.enable()


def print_table(rows: Iterable[Ratio]) -> None:
    """Print measured ratios as a Markdown table."""
    print("| work | ours | theirs | ratio | at most | same against itself |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        noise = "" if row.noise is None else f"{row.noise:.2f}"
        at_most = "" if row.at_most is None else f"{row.at_most:.2f}"
        cells = [_duration(row.ours), _duration(row.theirs), f"{row.ratio:.2f}", at_most, noise]
        print(f"| {row.name} | {' | '.join(cells)} |")


def _duration(seconds: float) -> str:
    """Write a duration with the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"
