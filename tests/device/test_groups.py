"""One rank of NCCL, gloo beside it, and two ranks whose tensors are on the device."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import torchcreator as tc
from tests.device.marks import CUDA
from torchcreator.distributed import aggregate_gradients, data_parallel, verify

TIMEOUT = timedelta(seconds=30)


def policies():
    """Return a creator that gives each parameter another policy."""
    words = iter(["sum", "mean", "only_first_replica", "none"] * 4)

    def creator(next_creator, **kwargs):
        return next_creator(**{**kwargs, "aggregation": next(words)})

    return creator


def declared(device):
    with tc.creator_scope(policies()):
        return tc.build(lambda: nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4)), device=device)


@pytest.fixture
def one_rank(device, tmp_path, monkeypatch):
    """Make this process the only rank of the device's own backend; return the backend's name."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    backend, index = ("nccl", torch.device("cuda", 0)) if device.type == "cuda" else ("gloo", None)
    meeting = f"file://{tmp_path / 'meeting'}"
    dist.init_process_group(
        backend, init_method=meeting, rank=0, world_size=1, timeout=TIMEOUT, device_id=index
    )
    yield backend
    dist.destroy_process_group()
    gc.collect()  # FSDP2 lists its modules for the whole process


def on_its_own(model, device):
    return model


def by_hand(model, device):
    aggregate_gradients(model)
    return model


def by_ddp(model, device):
    return data_parallel(model)


def by_fsdp2(model, device):
    mesh = init_device_mesh(device.type, (1,))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    aggregate_gradients(fully_shard(model, mesh=mesh))
    return model


def trained(host, device):
    """Return the weights after two steps under a host, whole and on the CPU."""
    torch.manual_seed(0)
    model = declared(device)
    hosted = host(model, device)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.linspace(-1, 1, 24, device=device).view(3, 8)
    for _ in range(2):
        opt.zero_grad()
        hosted(x).square().sum().backward()
        opt.step()
    return [getattr(p, "full_tensor", lambda p=p: p)().detach().cpu() for p in model.parameters()]


@pytest.mark.parametrize("host", [by_hand, by_ddp, by_fsdp2])
def test_one_rank_trains_as_without_a_group(one_rank, device, host):
    """With a single rank, every host and policy leaves the gradients as they are."""
    for ours, plain in zip(trained(host, device), trained(on_its_own, device), strict=True):
        torch.testing.assert_close(ours, plain)


def test_backends_side_by_side(one_rank, device):
    """Variables of the CPU travel by gloo, and those of the device by its own, in one process."""
    gloo = dist.new_group([0], backend="gloo", timeout=TIMEOUT)
    model = nn.Module()
    model.here = tc.variable([1.0], name="here", aggregation="sum", process_group=gloo)
    model.there = tc.variable([2.0], name="there", aggregation="sum", device=device)
    aggregate_gradients(model)
    (model.here * 3 + (model.there * 4).cpu()).sum().backward()
    assert (model.here.grad.item(), model.there.grad.item()) == (3.0, 4.0)
    tc.assign(model.here, [5.0])
    tc.assign(model.there, [6.0])
    verify(model)
    assert (tc.read_value(model.here).item(), tc.read_value(model.there).item()) == (5.0, 6.0)


GIVEN = {"sum": (3.0, 3.0), "mean": (1.5, 1.5), "only_first_replica": (1.0, 1.0)}
"""By policy, what gradients of 1 on the first rank and 2 on the second become on each."""


def two_ranks(rank, meeting, kind):
    """Train on one of two gloo ranks; leave what was found in a file."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    where = f"file://{meeting}"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=2, timeout=TIMEOUT)
    model = nn.Module()
    for policy in GIVEN:
        made = tc.variable(torch.ones(3), name=policy, aggregation=policy, device=kind)
        model.register_parameter(policy, made)
    aggregate_gradients(model)
    torch.stack([(rank + 1) * p.sum() for p in model.parameters()]).sum().backward()
    found = {name: p.grad.tolist() for name, p in model.named_parameters()}
    model.mean_of = tc.variable(
        torch.zeros(2), name="mean_of", synchronization="on_write", aggregation="mean", device=kind
    )
    tc.assign(model.mean_of, torch.full((2,), float(rank)))
    found["assigned"] = model.mean_of.tolist()
    verify(model)
    Path(f"{meeting}.{rank}").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cpu", CUDA])
def test_two_ranks(kind):
    """Every policy means on the device what it means on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        spawn = multiprocessing.get_context("spawn")  # a fork could not use the device
        meeting = f"{folder}/meeting"
        ranks = [spawn.Process(target=two_ranks, args=(i, meeting, kind)) for i in range(2)]
        try:
            for process in ranks:
                process.start()
            for process in ranks:
                process.join(90)
            assert [process.exitcode for process in ranks] == [0, 0]
        finally:
            for process in ranks:
                process.kill()
        for rank in range(2):
            found = json.loads(Path(f"{meeting}.{rank}").read_text())
            expected = {policy: [given[rank]] * 3 for policy, given in GIVEN.items()}
            assert found == {**expected, "assigned": [0.5, 0.5]}
