"""How far resident memory rises while a model is built, each in a process of its own."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard

import torchcreator as tc
from tests.support.ranks import run_ranks
from torchcreator._build.build import build, defer
from torchcreator._build.materialize import materialize

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.skipif(
        not Path("/proc/self/clear_refs").exists(), reason="needs Linux to measure a peak"
    ),
]
LAYERS, PARAMETER = 12, 4  # MiB
MODEL = LAYERS * PARAMETER
SLACK = 3
M_MMAP_THRESHOLD = -3  # glibc's name; it otherwise grows with what is freed


class Twice(nn.Module):
    """Initialised twice; a recorder that keeps what is overwritten would need twice the memory."""

    def __init__(self, width=1024, layers=LAYERS):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=0.02)


def resident(word):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(word)).split()[1]) / 1024


def rise(make):
    """Return by how many MiB resident memory rises at most while ``make()`` runs, once warm."""
    torch.set_num_threads(1)
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)  # what is freed leaves the process
    make()  # a fork maps what it inherits when it first touches it
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    kept = make()
    peak = resident("VmHWM") - before
    assert kept is not None
    return peak


def refused(**options):
    def on_meta(next_creator, **kwargs):
        return next_creator(**{**kwargs, "device": "meta"})

    with tc.creator_scope(on_meta):
        return build(Twice, **options)


@pytest.mark.parametrize(
    ("make", "most"),
    [
        pytest.param(lambda: build(Twice), MODEL + PARAMETER, id="exact"),
        pytest.param(lambda: build(Twice, seed=0), MODEL + PARAMETER, id="seeded"),
        pytest.param(refused, PARAMETER, id="exact, refused"),
        pytest.param(lambda: refused(seed=0), 0, id="seeded, refused"),
        pytest.param(lambda: defer(Twice), 0, id="deferred"),
        pytest.param(lambda: materialize(defer(Twice)), MODEL + PARAMETER, id="materialised"),
    ],
)
def test_one_process(make, most, tmp_path):
    """The peak is the model and about one parameter; what creators refuse is never made."""
    (peak,) = run_ranks(lambda _: rise(make), 1, tmp_path)
    assert peak <= most + SLACK


@pytest.mark.parametrize("seed", [None, 0], ids=["exact", "seeded"])
@pytest.mark.parametrize("world_size", [2, 4])
def test_shards(world_size, seed, tmp_path):
    """No rank's peak exceeds its shards and a little: nothing is made whole."""

    def make():
        model = defer(Twice, seed=seed)
        for layer in model.layers:
            fully_shard(layer)
        return materialize(fully_shard(model))

    for peak in run_ranks(lambda _: rise(make), world_size, tmp_path):
        assert peak <= MODEL / world_size + SLACK
