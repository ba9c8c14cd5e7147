"""The launcher of ranks tells the truth about how they ended."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch
import torch.distributed as dist

from tests.support.ranks import RankError, rank_outcomes, run_ranks


def test_returns_what_each_rank_returned(tmp_path):
    """Every rank's result comes back, in the order of the ranks."""

    def total(rank):
        value = torch.tensor(float(rank + 1))
        dist.all_reduce(value)
        return rank, value.item()

    assert run_ranks(total, 2, tmp_path) == [(0, 3.0), (1, 3.0)]


def test_a_failing_rank_is_named_first_with_its_traceback(tmp_path):
    """The rank that raised is reported with its number and line, before those it took along."""

    def fails(rank):
        if rank == 1:
            message = f"broken on purpose by {rank}"
            raise ValueError(message)
        dist.barrier()

    with pytest.raises(RankError, match=r"(?s)^rank 1 of 2.*in fails.*broken on purpose"):
        run_ranks(fails, 2, tmp_path)


def test_a_killed_rank_is_seen(tmp_path):
    """A rank that is killed leaves an outcome without a result, with the signal's exit code."""

    def dies(rank):
        os.kill(os.getpid(), signal.SIGKILL)

    (outcome,) = rank_outcomes(dies, 1, tmp_path)
    assert (outcome.exitcode, outcome.result) == (-signal.SIGKILL, None)


def test_a_hanging_rank_is_ended_with_its_stack(tmp_path):
    """A rank that outstays the timeout is killed, and the error shows where it stood."""

    def hangs(rank):
        time.sleep(60)

    with pytest.raises(RankError, match="in hangs"):
        run_ranks(hangs, 1, tmp_path, timeout=3)
