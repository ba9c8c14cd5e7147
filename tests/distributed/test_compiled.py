"""Models that inductor compiles, and FSDP2 ones: the policies hold there too."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch.distributed.fsdp import fully_shard

from tests.distributed.models import Policies, expected, feed, gradients
from tests.support.ranks import run_ranks
from torchcreator.distributed import aggregate_gradients, data_parallel, per_rank_parameters


def in_fsdp(rank):
    model = Policies(rank, nested=False)
    fully_shard(model, ignored_params=per_rank_parameters(model))
    aggregate_gradients(model)
    return model


def in_ddp(rank):
    return data_parallel(Policies(rank, nested=False))


BACKEND = "inductor" if shutil.which("g++") else "aot_eager"  # inductor compiles with g++


@pytest.mark.slow
def test_compiled_steps_reduce_as_eager_ones_do(tmp_path):
    """Two backwards of a compiled model add up what its variables declare, in each host."""

    def play(rank):
        results = {}
        for host in (in_fsdp, in_ddp):
            torch.compiler.reset()
            model = host(rank)
            step = torch.compile(model, backend=BACKEND)
            for _ in range(2):
                step(feed(rank)).backward()
            results[host.__name__] = gradients(model)
        return results

    for rank, results in enumerate(run_ranks(play, 2, tmp_path, timeout=150)):
        bare = {k: v for k, v in expected(rank, backwards=2).items() if "." not in k}
        assert results == {"in_fsdp": bare, "in_ddp": bare}
