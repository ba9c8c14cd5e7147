"""Gradients under ``data_parallel`` with each of DDP's options, worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

from tests.distributed import schedules
from tests.distributed.models import Policies, expected, feed, gradients
from tests.distributed.schedules import backward
from tests.support.ranks import Scenes
from torchcreator.distributed import data_parallel

OPTIONS = {
    "defaults": {},
    "gradient_as_bucket_view": {"gradient_as_bucket_view": True},
    "find_unused_parameters": {"find_unused_parameters": True},
    "static_graph": {"static_graph": True},
    "tiny buckets": {"bucket_cap_mb": 1e-6},
    "views of tiny buckets": {"bucket_cap_mb": 1e-6, "gradient_as_bucket_view": True},
    "one huge bucket": {"bucket_cap_mb": 1000},
    "fp16 on the wire": {"compress": torch.float16},
    "bf16 on the wire": {"compress": torch.bfloat16},
    "torch's own fp16 hook": {"compress": default_hooks.fp16_compress_hook},
    "a hook with a state": {"compress": (None, default_hooks.allreduce_hook)},
}


def forward_alone_unsynced(ddp: nn.Module, held: nn.Module, rank: int) -> None:
    # DDP decides in forward: this backward is not synchronised, though no_sync() is over.
    with ddp.no_sync():
        loss = ddp(feed(rank))
    loss.backward()
    backward(ddp, rank)


SCHEDULES = {
    **schedules.SCHEDULES,
    schedules.dropped_between: 2,
    forward_alone_unsynced: 2,
}


def measure(option):
    """Return a function of a rank that takes one option through every schedule."""

    def play(rank):
        ddp = data_parallel(Policies(rank), **OPTIONS[option])
        backward(ddp, rank)  # torch's static graph wants its first backward synchronised
        results = {}
        for schedule in SCHEDULES:
            for _ in range(3):  # DDP rebuilds its buckets after the first backward
                ddp.zero_grad()
                schedule(ddp, ddp, rank)
            results[schedule.__name__] = gradients(ddp)
        return results

    return play


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What every option gives with every schedule, on two ranks."""
    return Scenes({o: measure(o) for o in OPTIONS}, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.__name__)
@pytest.mark.parametrize("option", OPTIONS)
def test_gradients_are_those_worked_out_by_hand(measured, option, schedule):
    """Each policy gives its gradient, with each of DDP's options, however backwards accumulate."""
    for rank, results in enumerate(measured[option]):
        assert results[schedule.__name__] == expected(rank, backwards=SCHEDULES[schedule])
