"""Gradients under ``aggregate_gradients``: an existing DDP, FSDP2, and plain modules."""

from __future__ import annotations

import pytest
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

from tests.distributed import schedules
from tests.distributed.hosts import HOSTS
from tests.distributed.models import expected, feed, gradients, whole
from tests.support.ranks import Scenes, run_ranks
from torchcreator import variable
from torchcreator.distributed import aggregate_gradients, per_rank_parameters

SCHEDULES = {**schedules.SCHEDULES, schedules.after_evaluation: 1}


def measure(host):
    """Return a function of a rank that runs one host through every schedule."""

    def play(rank):
        build, options = HOSTS[host]
        model, aggregation = build(rank, **options)
        results = {}
        for schedule in SCHEDULES:
            for _ in range(2):
                model.zero_grad()
                schedule(model, aggregation, rank)
            results[schedule.__name__] = gradients(model)
        return results

    return play


@pytest.fixture(scope="module", params=[2, 3], ids=["two ranks", "three ranks"])
def measured(request, tmp_path_factory):
    """What every host gives with every schedule."""
    hosts = {host: measure(host) for host in HOSTS}
    return Scenes(hosts, request.param, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.__name__)
@pytest.mark.parametrize("host", HOSTS)
def test_gradients_are_those_worked_out_by_hand(measured, host, schedule):
    """Each policy gives its gradient in each host, however backwards accumulate."""
    for rank, results in enumerate(ranks := measured[host]):
        want = expected(rank, backwards=SCHEDULES[schedule], world_size=len(ranks))
        if "ddp" in host:
            want = {name: value for name, value in want.items() if not name.endswith("local")}
        # A third is no binary fraction, and on the wire it may have eight bits.
        close = 2e-2 if "16" in host else 1e-6
        assert results[schedule.__name__] == pytest.approx(want, rel=close)


def test_hybrid_sharding(tmp_path):
    """Over two replicas of two shards, gradients are reduced over all four, and values are one."""

    class Halves(nn.Module):
        def __init__(self, rank):
            super().__init__()
            for name in ("sum", "mean", "only_first_replica"):
                self.register_parameter(name, variable([float(rank)] * 2, aggregation=name))
            self.local = variable([float(rank)], synchronization="none")

        def forward(self, x):
            return sum((p * x).sum() for p in self.parameters())

    def play(rank):
        names = ("replicate", "shard")
        mesh = dist.device_mesh.init_device_mesh("cpu", (2, 2), mesh_dim_names=names)
        model = Halves(rank)
        fully_shard(model, mesh=mesh, ignored_params=per_rank_parameters(model))
        aggregate_gradients(model)
        values = {name: whole(p.detach()).tolist() for name, p in model.named_parameters()}
        for _ in range(2):
            model(feed(rank)).backward()
        return values, {name: whole(p.grad).tolist() for name, p in model.named_parameters()}

    for rank, (values, got) in enumerate(run_ranks(play, 4, tmp_path)):
        own = {"local": [float(rank)]}
        # Each shard is its first replica's: rank 0's half and rank 1's.
        shards = [0.0, 1.0]
        assert values == {"sum": shards, "mean": shards, "only_first_replica": shards} | own
        # Twice 1 + 2 + 3 + 4.
        total = {"sum": [20.0] * 2, "mean": [5.0] * 2, "only_first_replica": [2.0] * 2}
        assert got == total | {"local": [2.0 * (rank + 1)]}
