"""Where tensors of ours travel."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from torchcreator._access import collectives
from torchcreator._access.collectives import World

BACKENDS = {
    "one that moves all": ("fake", 2, "cpu"),
    "one for each": ("cpu:gloo,cuda:nccl", 2, "cpu"),
    "from GPUs alone": ("cuda:nccl", 2, "cuda:7"),
    "from other accelerators alone": ("xpu:xccl", 2, "xpu:7"),
    "one rank": ("cuda:nccl", 1, "cpu"),
}


@pytest.mark.parametrize(("backends", "size", "device"), BACKENDS.values(), ids=BACKENDS)
def test_where_a_tensor_must_lie_to_travel(monkeypatch, backends, size, device):
    """On the CPU where the group moves tensors from there, else on its current device."""
    configured = dist.get_backend_config if backends == "fake" else lambda group: backends
    monkeypatch.setattr(dist, "get_backend_config", configured)
    monkeypatch.setattr(
        collectives, "with_index", lambda d: d if d.type == "cpu" else torch.device(d.type, 7)
    )
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=size)
    try:
        assert World.of(None).device == torch.device(device)
    finally:
        dist.destroy_process_group()
