"""Values made in several threads, in parts of about the same cost, inside of large tensors too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby, pairwise
from operator import itemgetter
from typing import NamedTuple

import torch

from torchcreator._recorder.boxes import Region, elements_of, rows, size_of_region
from torchcreator._recorder.replay import ReplayError, filler
from torchcreator._recorder.rng_draw import Draw, cut_near
from torchcreator._recorder.rng_outputs import is_contiguous
from torchcreator._recorder.rng_protocol import Draws
from torchcreator._recorder.tape import Ref, Tape
from torchcreator._torch.dispatch import no_function_modes

_WORTH_A_LOOK = 1 << 21  # bytes
_WORTH_THREADS = 4e6  # nanoseconds; below, handing the work over costs more than doing it
_A_BYTE = 1.2  # nanoseconds
_PARTS = 16  # for each thread, which waits for the last one of another at the end
_AT_ONCE = 1 << 28  # bytes of parts
_SHORTEST = 2e6  # nanoseconds; going on somewhere else takes as long

Alone = Callable[[Ref], torch.Tensor]
"""Makes the value of one tensor in this thread."""


class _Job:
    """A value to be made, or a part of one.

    Args:
        tape: The tape.
        draws: Where random numbers come from.
        ref: The tensor's.
        region: The part of it; None for all, laid out as it is.
        alone: Makes it in this thread.

    Attributes:
        number: The first operation that draws for it, or None.
        draw: What that draws if it is all there is to do, and can be cut.
        first: The element of the draw with which the value begins.
        last: The one before which it ends.
        cost: About how long it takes, in ns.
        stays: Whether this thread has to make it: a product's last bits depend on the thread that
            computes it, which is no matter for what is drawn; and on another device each thread has
            a stream of its own, which nobody waits for. What may have to be made whole for the sake
            of a part is made one at a time.
        value: The tensor, from the beginning on where it can be cut.
    """

    def __init__(
        self,
        tape: Tape,
        draws: Draws,
        ref: Ref,
        region: Region | None,
        alone: Callable[[], torch.Tensor],
    ) -> None:
        self.ref = ref
        self.alone = alone
        self.draw: Draw | None = None
        self.value: torch.Tensor | None = None
        size = ref.size if region is None else size_of_region(region)
        self.first, self.last = 0, size.numel()
        filling = filler(tape, ref)
        drawing = (n for n in tape.slice([ref.storage]) if tape.ops[n].traits.draws)
        self.number = next(drawing, None)
        draw = None if filling is None or filling != self.number else draws.known(filling)
        share = 1.0 if region is None else self.last / max(1, ref.size.numel())
        cost = tape.nbytes(ref.storage) * _A_BYTE if draw is None else draw.cost
        self.cost = cost * share
        on_cpu = tape.device(ref.storage).type == "cpu"
        if draw is not None and draw.step and self.last and on_cpu and is_contiguous(ref):
            elements = (0, self.last) if region is None else elements_of(ref.size, region)
            if elements is not None and draw.around(*elements) == elements:
                self.draw = draw
                self.first, self.last = elements
                stride = ref.stride if region is None else rows(size)
                with torch.inference_mode(False):  # other threads fill it
                    self.value = torch.empty_strided(size, stride, dtype=ref.dtype)
        one_at_a_time = draws.ordered or (region is not None and filling is None)
        self.stays = not on_cpu or (self.draw is None and one_at_a_time)


class _Piece(NamedTuple):
    """What a value has of its draw's elements from ``first`` to before ``last``."""

    job: _Job
    first: int
    last: int


def values(
    tape: Tape, draws: Draws, refs: list[Ref], alone: Alone
) -> Iterator[tuple[Ref, torch.Tensor]]:
    """Yield the value of each tensor, in any order.

    To be called without grad mode and function modes.

    Args:
        tape: The tape.
        draws: Where random numbers come from.
        refs: The tensors.
        alone: Makes the value of one of them in this thread.
    """
    if draws.ordered and len(refs) > 1:
        refs.sort(key=lambda ref: tape.last_writer(ref.storage))
    threads = torch.get_num_threads()
    if threads > 1 and sum(tape.nbytes(ref.storage) for ref in refs) >= _WORTH_A_LOOK:
        jobs = [_Job(tape, draws, ref, None, partial(alone, ref)) for ref in refs]
        if sum(job.cost for job in jobs) >= _WORTH_THREADS:
            if _made(tape, draws, jobs, threads):
                yield from ((job.ref, job.value) for job in jobs if job.value is not None)
                return
            draws.restart()
    for ref in refs:
        yield ref, alone(ref)


def regions(
    tape: Tape,
    draws: Draws,
    wished: Sequence[tuple[Ref, Region]],
    alone: Callable[[Ref, Region], torch.Tensor],
) -> Iterator[torch.Tensor]:
    """Yield regions of tensors, in their order, several made at a time.

    So many bytes at a time: who takes them may move them elsewhere. What is planned and handed over
    together takes half the time: each draw leaves a processor's caches without the program.

    Args:
        tape: The tape.
        draws: Where random numbers come from.
        wished: The tensors, and the regions of them.
        alone: Makes one of them in one thread.
    """
    for batch in _batches(wished):
        jobs = [
            _Job(tape, draws, ref, region, partial(alone, ref, region)) for ref, region in batch
        ]
        _make(tape, draws, jobs)
        jobs.reverse()
        while jobs:
            yield _value(jobs.pop())  # it is the caller's alone


def _batches(wished: Sequence[tuple[Ref, Region]]) -> Iterator[list[tuple[Ref, Region]]]:
    batch, nbytes = [], 0
    for ref, region in wished:
        batch.append((ref, region))
        nbytes += size_of_region(region).numel() * ref.dtype.itemsize
        if nbytes >= _AT_ONCE:
            yield batch
            batch, nbytes = [], 0
    yield batch


def _make(tape: Tape, draws: Draws, jobs: list[_Job]) -> None:
    in_order = sorted(jobs, key=lambda job: -1 if job.number is None else job.number)
    with torch.no_grad(), no_function_modes():
        if _made(tape, draws, in_order, torch.get_num_threads()):
            return
    draws.restart()
    for job in jobs:
        job.value = job.alone()


def _value(job: _Job) -> torch.Tensor:
    assert job.value is not None  # it was made
    return job.value


def _made(tape: Tape, draws: Draws, jobs: list[_Job], threads: int) -> bool:
    """Make all values; return whether all was drawn as it was reckoned."""
    cost = sum(job.cost for job in jobs)
    make = partial(_run, tape, draws)
    if threads == 1 or cost < _WORTH_THREADS:
        return make(_Piece(job, job.first, job.last) for job in jobs)
    target = max(_SHORTEST, cost / (threads * _PARTS))
    with ThreadPoolExecutor(threads, initializer=torch.set_grad_enabled, initargs=(False,)) as pool:
        for base, run in _runs(draws, jobs):
            draws.reach(base)
            here = [job for job in run if job.stays]
            parts = _parts([job for job in run if not job.stays], target)
            with _Rows(parts, threads) as shared:
                agreed = pool.map(lambda number: all(map(make, shared.of(number))), range(threads))
                if not make(_Piece(job, 0, 0) for job in here) or not all(agreed):
                    return False
    return True


def _run(tape: Tape, draws: Draws, pieces: Iterable[_Piece]) -> bool:
    """Make pieces in this thread; return whether it has drawn what was reckoned."""
    for job, first, last in pieces:
        if job.draw is None or job.number is None or job.value is None:
            job.value = job.alone()
            continue
        target = job.value.view(-1)[first - job.first : last - job.first]
        try:
            draws.piece(job.number, job.draw, first, target)
        except ReplayError:  # of another draw, which this one has to come after
            raise
        except Exception as error:
            raise ReplayError(tape.ops[job.number]) from error
    return draws.agrees()


class _Rows:
    """Parts for several threads, each of which has those that follow each other in a row.

    Who is done takes half of what the longest row still has: memory that is fresh takes half as
    long again, and other processes have a core for a while. Parts that follow each other need no
    state to begin with.
    """

    def __init__(self, parts: list[list[_Piece]], threads: int) -> None:
        bounds = [len(parts) * number // threads for number in range(threads + 1)]
        self._rows = [parts[first:last][::-1] for first, last in pairwise(bounds)]
        self._lock = threading.Lock()

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *_: object) -> None:  # where one has failed, all stop
        with self._lock:
            for row in self._rows:
                row.clear()

    def of(self, number: int) -> Iterator[Iterator[_Piece]]:
        """Yield a thread's pieces, those that follow each other at a time."""
        row = self._rows[number]
        while True:
            yield self._pieces(row)
            with self._lock:
                longest = max(self._rows, key=len)
                half = (len(longest) + 1) // 2
                row[:], longest[:half] = longest[:half], []
            if not half:
                return

    def _pieces(self, row: list[list[_Piece]]) -> Iterator[_Piece]:
        while True:
            with self._lock:
                if not row:
                    return
                part = row.pop()
            yield from part


def _runs(draws: Draws, jobs: list[_Job]) -> list[tuple[object, list[_Job]]]:
    """Return the jobs that may be done at the same time, and what they are all counted from."""
    base: object = None
    bases: list[object] = []
    for job in jobs:
        if job.number is not None:
            base = draws.base(job.number)
        bases.append(base)
    runs = groupby(zip(bases, jobs, strict=True), key=itemgetter(0))
    return [(base, [job for _, job in run]) for base, run in runs]


def _parts(jobs: list[_Job], target: float) -> list[list[_Piece]]:
    """Cut jobs into parts of about the same cost, in their order."""
    parts: list[list[_Piece]] = [[]]
    room = target
    for job in jobs:
        first, last = job.first, job.last
        each = job.cost / max(1, last - first)
        while True:
            if room <= 0:
                parts.append([])
                room += target
            rest = (last - first) * each
            cut = None
            if job.draw is not None and rest > room + target / 4:  # else a part may be longer
                cut = cut_near(job.draw, first + int(room / each))
            if cut is None or cut <= first:
                parts[-1].append(_Piece(job, first, last))
                room -= rest
                break
            parts[-1].append(_Piece(job, first, cut))
            first, room = cut, 0
    return parts
