"""Processes of this machine that meet on loopback, and their certain end."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkContext, SpawnContext
    from multiprocessing.process import BaseProcess

PATIENCE = timedelta(seconds=60)
"""How long a rank waits for another before it gives up."""

GRACE = 3.0
"""Seconds a process has to end after being asked to, before it is killed."""


@dataclass(frozen=True)
class Place:
    """Where a rank stands, and its way to tell the process that started it something.

    Attributes:
        rank: This process's number.
        world_size: How many there are.
        tell: Sends plain data to the process that started this one.
    """

    rank: int
    world_size: int
    tell: Callable[[object], None]


@dataclass(frozen=True)
class Failure:
    """What a rank tells when its work raised: the traceback."""

    text: str


class RankError(Exception):
    """A rank failed or died; the message says which, and shows its traceback."""


Work = Callable[[Place], None]


@contextmanager
def started(work: Work, *, world_size: int, fork: bool) -> Iterator[Iterator[tuple[int, Any]]]:
    """Run ``work`` on ``world_size`` ranks; on the way out, however taken, end all of them.

    Args:
        work: What each rank does. It is pickled unless the processes are forked.
        world_size: How many processes.
        fork: Fork this process, 0.1 s where spawning takes seconds. Not where CUDA is used,
            which does not survive a fork, nor where the platform's libraries do not.

    Yields:
        What the ranks tell, as pairs of rank and message, until the last has ended.
    """
    context: ForkContext | SpawnContext = (
        multiprocessing.get_context("fork")
        if fork and can_fork()
        else multiprocessing.get_context("spawn")
    )
    processes: list[BaseProcess] = []
    ends: list[Connection] = []
    with TemporaryDirectory() as meeting:
        try:
            for rank in range(world_size):
                ours, theirs = context.Pipe(duplex=False)
                arguments = (work, rank, world_size, Path(meeting, "ranks").as_uri(), theirs)
                process = context.Process(target=_be_rank, args=arguments, daemon=True)
                with _uninterrupted(), warnings.catch_warnings():
                    # Python 3.12 warns of any fork beside threads, even idle ones.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    process.start()
                    processes.append(process)
                ends.append(ours)
                theirs.close()  # only the rank holds it now: when the rank ends, so does the pipe
            yield _told(processes, ends)
        finally:
            with _uninterrupted():
                _end(processes)


def can_fork() -> bool:
    """Return whether a process that has loaded torch survives a fork here."""
    return sys.platform == "linux"


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C; processes started meanwhile ignore it too, for this one will end them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _told(
    processes: Sequence[BaseProcess], ends: Sequence[Connection]
) -> Iterator[tuple[int, Any]]:
    """Yield what the ranks tell, as it arrives; raise at the first sign of one that failed."""
    telling = dict(enumerate(ends))
    while telling:
        ready = connection.wait(list(telling.values()))
        for rank, end in [(rank, end) for rank, end in telling.items() if end in ready]:
            try:
                message = end.recv()
            except EOFError:
                del telling[rank]
                _check_ended_well(rank, processes[rank])
                continue
            if isinstance(message, Failure):
                complaint = f"rank {rank} failed\n{message.text}"
                raise RankError(complaint)
            yield rank, message


def _check_ended_well(rank: int, process: BaseProcess) -> None:
    process.join(GRACE)
    if process.exitcode != 0:
        complaint = f"rank {rank} ended with exit code {process.exitcode}"
        raise RankError(complaint)


def _end(processes: Sequence[BaseProcess]) -> None:
    """Leave no process behind: ask first, then kill."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(GRACE)
        if process.is_alive():
            process.kill()
            process.join()


def _be_rank(work: Work, rank: int, world_size: int, meeting: str, end: Connection) -> None:
    """Be one rank: meet the others, do the work, tell how it went."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["GLOO_SOCKET_IFNAME"] = _loopback()
    try:
        dist.init_process_group(
            "gloo", init_method=meeting, rank=rank, world_size=world_size, timeout=PATIENCE
        )
        work(Place(rank, world_size, end.send))
        gc.collect()  # a DDP that outlives its process group can deadlock gloo's threads
        dist.barrier()  # a rank that leaves early would break the connection of one still at work
        dist.destroy_process_group()
    except Exception:
        end.send(Failure(traceback.format_exc()))
        sys.exit(1)


def _end_with_parent() -> None:
    """Wait for the process that started this one, and end when it is gone, even if killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _loopback() -> str:
    """Return the loopback interface's name, so that gloo neither asks nor touches a network."""
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if name.startswith("lo")), names[0])
