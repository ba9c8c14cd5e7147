"""Real gloo ranks for tests: forked, met by a file, bounded in time."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import multiprocessing
import os
import pickle
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import torch
import torch._dynamo  # what every optimizer imports when it is made: here once, not in each fork
import torch.distributed as dist

_GRACE = 10.0  # what the other ranks get, once one has failed, to notice and to say so


class RankError(AssertionError):
    """A rank failed; the message holds its number and its traceback."""


@dataclass(frozen=True)
class Outcome:
    """How one rank ended: with a result, with a traceback, or with neither (it was killed)."""

    rank: int
    result: Any
    error: str | None
    exitcode: int | None
    ended_at: float

    @property
    def failed(self) -> bool:
        """Whether the rank ended in any other way than by returning."""
        return self.exitcode != 0


def run_ranks(
    fn: Callable[[int], Any], world_size: int, tmp_path: Path, timeout: float = 60
) -> list[Any]:
    """Run ``fn(rank)`` on that many forked gloo ranks and return what each returned.

    Args:
        fn: Any callable, closures included: ranks are forks of this process. What it returns is
            pickled.
        world_size: The number of ranks.
        tmp_path: A directory; the ranks meet at a file in it.
        timeout: Seconds after which ranks that still run are killed; also the group's timeout.

    Raises:
        RankError: A rank raised, died or hung. The first that did so is named first.
    """
    outcomes = rank_outcomes(fn, world_size, tmp_path, timeout)
    failed = sorted((o for o in outcomes if o.failed), key=lambda o: o.ended_at)
    if failed:
        report = "\n".join(
            f"rank {o.rank} of {world_size} (exit code {o.exitcode}):\n{o.error}" for o in failed
        )
        raise RankError(report)
    return [outcome.result for outcome in outcomes]


def without_gloo(printed: str) -> str:
    """Return what processes printed, without what gloo of torch 2.10 prints of itself."""
    lines = printed.splitlines(keepends=True)  # two processes may have written into one
    return "".join(line for line in lines if not re.search(r"\[Gloo\] |peer ranks", line))


class Scenes(Mapping[Any, list[Any]]):
    """Functions of a rank, each run in a world of its own when its result is first asked for.

    What one of them does wrong, the others' tests do not hear of.

    Args:
        scenes: The functions, each by the name that its result is asked for.
        world_size: The number of ranks.
        tmp_path: A directory in which ranks meet.
        timeout: Seconds after which ranks that still run are killed.
    """

    def __init__(
        self,
        scenes: Mapping[Any, Callable[[int], Any]],
        world_size: int,
        tmp_path: Path,
        timeout: float = 60,
    ) -> None:
        self._scenes = scenes
        self._run = partial(run_ranks, world_size=world_size, tmp_path=tmp_path, timeout=timeout)
        self._results: dict[Any, list[Any]] = {}

    def __getitem__(self, name: Any) -> list[Any]:
        """Return what a function returned on each rank."""
        if name not in self._results:
            self._results[name] = self._run(self._scenes[name])
        return self._results[name]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._scenes)

    def __len__(self) -> int:
        return len(self._scenes)


def scenes(
    functions: list[Callable[[int], Any]], world_size: int, tmp_path: Path
) -> Mapping[str, list[Any]]:
    """Return the results of functions of a rank by their names, each run apart, when needed."""
    return Scenes({function.__name__: function for function in functions}, world_size, tmp_path)


def claims_on_ranks(
    claims: list[Callable[..., None]], world_size: int, tmp_path: Path, *arguments: Any
) -> list[dict[str, str]]:
    """Try claims one after the other in the same ranks; return each rank's failures by name.

    Starting the ranks takes longer than a claim does.
    """

    def every(_: int) -> dict[str, str]:
        wrong = {}
        for claim in claims:
            try:
                claim(*arguments)
            except Exception:
                wrong[claim.__name__] = traceback.format_exc()
        return wrong

    return run_ranks(every, world_size, tmp_path, timeout=120)


def rank_outcomes(
    fn: Callable[[int], Any], world_size: int, tmp_path: Path, timeout: float = 60
) -> list[Outcome]:
    """Do the same as `run_ranks`, but report how each rank ended instead of raising."""
    meeting = Path(tempfile.mkdtemp(dir=tmp_path))
    fork = multiprocessing.get_context("fork")
    ranks: list[BaseProcess] = [
        fork.Process(target=_rank_main, args=(fn, rank, world_size, meeting, timeout))
        for rank in range(world_size)
    ]
    sys.stdout.flush()  # or each fork would print what is buffered once more
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Python 3.12 warns of any fork beside threads; torch's idle pools are not used by ranks.
        warnings.simplefilter("ignore", DeprecationWarning)
        for process in ranks:
            process.start()
    _wait_for(ranks, time.monotonic() + timeout)
    return [_outcome(rank, process, meeting) for rank, process in enumerate(ranks)]


def _wait_for(ranks: list[BaseProcess], deadline: float) -> None:
    """Wait until all ranks ended, the deadline, or a grace after the first failure; then kill."""
    running = {process.sentinel: process for process in ranks}
    while running and (left := deadline - time.monotonic()) > 0:
        for sentinel in cast("list[int]", wait(list(running), timeout=left)):
            process = running.pop(sentinel)
            process.join()
            if process.exitcode != 0:
                deadline = min(deadline, time.monotonic() + _GRACE)
    for process in running.values():
        process.kill()
        process.join()


def _outcome(rank: int, process: BaseProcess, meeting: Path) -> Outcome:
    """Read what a rank left behind."""
    file = meeting / f"outcome{rank}"
    if file.exists():
        result, error, ended_at = pickle.loads(file.read_bytes())
        return Outcome(rank, result, error, process.exitcode, ended_at)
    stack = (meeting / f"stack{rank}").read_text() or "(no stack: it was killed)"
    return Outcome(rank, None, f"no outcome\n{stack}", process.exitcode, time.monotonic())


def _rank_main(
    fn: Callable[[int], Any], rank: int, world_size: int, meeting: Path, timeout: float
) -> None:
    """Run one rank and leave by ``os._exit``: gloo's threads are not asked to stop."""
    gc.freeze()  # garbage of the parent's is left alone: its process groups' threads are not here
    torch.set_num_threads(1)  # a fork must not enter the thread pool of its parent
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    os.environ["RANK"], os.environ["WORLD_SIZE"] = str(rank), str(world_size)
    with (meeting / f"stack{rank}").open("w") as stack:
        faulthandler.dump_traceback_later(max(timeout - 1, 0.5), file=stack)
        result, error = _attempt(fn, rank, world_size, meeting, timeout)
        faulthandler.cancel_dump_traceback_later()
    part = meeting / f"part{rank}"
    part.write_bytes(pickle.dumps((result, error, time.monotonic())))
    part.rename(meeting / f"outcome{rank}")
    if error is None and dist.is_initialized():
        with contextlib.suppress(Exception):  # some tests break their group on purpose
            dist.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if error is None else 1)


def _attempt(
    fn: Callable[[int], Any], rank: int, world_size: int, meeting: Path, timeout: float
) -> tuple[Any, str | None]:
    """Join the group and call ``fn``; return its result, or the traceback."""
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{meeting / 'store'}",
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=timeout),
        )
        result = fn(rank)
        pickle.dumps(result)
    except BaseException:  # also SystemExit and KeyboardInterrupt: the parent must hear of it
        return None, traceback.format_exc()
    return result, None
