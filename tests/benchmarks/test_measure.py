"""How two pieces of work are measured."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from benchmarks import _measure
from benchmarks._measure import Question, SkipQuestion, Take, ask, calls_per_sample, question, timed
from benchmarks._peers import peer


class Clock:
    """A clock that only moves when work is done."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def work(self, *seconds):
        """Return work that takes these times in turn, and its last one ever after."""
        left = list(seconds)

        def run():
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


@pytest.fixture(autouse=True)
def _threads_as_they_were():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_fastest_sample_counts():
    """Slow runs change nothing, whenever they happen."""
    clock = Clock()
    ours, theirs = clock.work(9.0, 9.0, 9.0, 2.0, 7.0), clock.work(9.0, 8.0, 5.0, 4.0)
    assert timed(ours, theirs, 0.0, clock) == Take(ours=2.0, theirs=4.0, again=4.0)


def test_short_work_is_sampled_many_calls_at_a_time():
    """A sample lasts long enough for the clock, and one call takes its share of it."""
    clock = Clock()
    calls = calls_per_sample(clock.work(1e-6), clock)
    assert calls * 1e-6 >= _measure.SAMPLE_SECONDS > calls * 1e-6 / 10
    taken = timed(clock.work(1e-6), clock.work(3e-6), 0.0, clock)
    assert taken.ours == pytest.approx(1e-6)
    assert taken.theirs == pytest.approx(3e-6)


def test_long_work_is_sampled_one_call_at_a_time():
    """What takes longer than a sample is called once for each."""
    clock = Clock()
    assert calls_per_sample(clock.work(1.0), clock) == 1


def test_what_a_first_call_imports_counts_for_nothing():
    """The call that warms up decides neither the sample nor the figure."""
    clock = Clock()
    assert calls_per_sample(clock.work(5.0, 1e-6), clock) > 100


def test_nobody_gains_from_running_after_himself():
    """Equal work reads equal, though whoever ran last finds its data in the caches."""
    clock, last = Clock(), []

    def cached(name):
        def work():
            clock.now += 2e-3 if last == [name] else 3e-3
            last[:] = [name]

        return work

    taken = timed(cached("ours"), cached("theirs"), 0.01, clock)
    assert taken.ours == pytest.approx(taken.theirs)
    assert taken.again == pytest.approx(taken.theirs)


@pytest.mark.parametrize("rounds", [3, 6])
def test_everyone_has_every_place_equally_often(rounds):
    """Nobody gains from coming first, however few rounds there are."""
    for place in range(3):
        counts = Counter(order[place] for order in _measure.ORDERS[:rounds])
        assert set(counts.values()) == {rounds // 3}


def test_six_rounds_are_all_orders():
    """After six rounds, each contender has run after each other one in all ways there are."""
    assert len(set(_measure.ORDERS)) == 6


def test_takes_start_over():
    """Both sides are made anew for each take, and tidied up after it, also when one fails."""
    log = []

    @question("work", against="other work", seconds=0.0, takes=3)
    def asked():
        log.append("made")
        try:
            yield (lambda: None), (lambda: None)
        finally:
            log.append("tidied up")

    ask(asked)
    assert log == ["made", "tidied up"] * 3


def test_a_failing_side_is_tidied_up():
    """An error in the work reaches the caller, after the generator has ended."""
    log = []

    @question("work", against="other work")
    def asked():
        try:
            yield (lambda: 1 / 0), (lambda: None)
        finally:
            log.append("tidied up")

    with pytest.raises(ZeroDivisionError, match="division by zero"):
        ask(asked)
    assert log == ["tidied up"]


def asking(*takes, **options):
    """Return a question that is answered with these takes."""
    left = list(takes)
    return Question("work", "others", lambda seconds: left.pop(0), takes=len(takes), **options)


def test_the_least_of_all_takes_is_the_figure():
    """Ratio, range and noise come from all takes together."""
    row = ask(asking(Take(2.0, 4.0, 4.4), Take(3.0, 4.0, 4.1), Take(3.0, 5.0, 5.0), at_most=0.7))
    assert (row.ours, row.theirs, row.ratio) == (2.0, 4.0, 0.5)
    assert (row.low, row.high) == (0.5, 0.75)
    assert row.noise == 4.1 / 4.0
    assert row.at_most == 0.7


def test_memory_has_no_noise():
    """What has no third party says so, and keeps its unit and its place on a curve."""
    row = ask(asking(Take(1.0, 4.0), unit="MiB", size=10.0))
    assert (row.noise, row.unit, row.size) == (None, "MiB", 10.0)


def test_a_quick_run_takes_a_quarter_in_two_takes():
    """Quick figures come from the same question, with less time for it."""
    seconds = []

    def take(budget):
        seconds.append(budget)
        return Take(1.0, 1.0, 1.0)

    ask(Question("work", "others", take, seconds=12.0, takes=3), quick=True)
    assert seconds == [1.0, 1.0]
    ask(Question("work", "others", take, seconds=12.0, takes=3))
    assert seconds[2:] == [4.0, 4.0, 4.0]


def test_threads_are_as_asked():
    """Work that is about one thread runs on one, other work on all cores."""
    seen = []

    def take(budget):
        seen.append(torch.get_num_threads())
        return Take(1.0, 1.0)

    ask(Question("work", "others", take, takes=1, threads=2))
    ask(Question("work", "others", take, takes=1))
    assert seen == [2, 1]


def test_a_missing_peer_skips_the_question():
    """What is not installed is a reason, not an error."""
    with pytest.raises(SkipQuestion, match=r"^nobody_has_this is not installed$"):
        peer("nobody_has_this")


def test_a_broken_peer_skips_the_question(tmp_path, monkeypatch):
    """A library that is installed and cannot be imported is left out as well."""
    (tmp_path / "breaks_when_imported.py").write_text("raise OSError('no such driver')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SkipQuestion, match="cannot be imported: no such driver"):
        peer("breaks_when_imported")
