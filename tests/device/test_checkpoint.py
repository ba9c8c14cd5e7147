"""`from_checkpoint` onto a device, against safetensors' own loading."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.device.marks import CUDA

safetensors = pytest.importorskip("safetensors.torch")


def factory():
    return nn.Sequential(nn.Linear(300, 200), nn.BatchNorm1d(200), nn.Linear(200, 50))


@pytest.fixture
def path(tmp_path):
    safetensors.save_file(factory().state_dict(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


WAYS = {
    "build": lambda device: tc.build(factory, device=device, seed=0),
    "exact build": lambda device: tc.build(factory, device=device),
    "materialize": lambda device: tc.materialize(tc.defer(factory, device=device, seed=0)),
    "materialize elsewhere": lambda device: tc.materialize(
        tc.defer(factory, seed=0), device=device
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_loaded_is_what_the_file_has(device, path, way):
    """Every parameter is on the device, with the bytes that `load_file` gives there."""
    expected = safetensors.load_file(path, device=str(device))
    with tc.creator_scope(tc.creators.from_checkpoint(path)):
        model = WAYS[way](device)
    for name, parameter in model.named_parameters():
        assert parameter.device.type == device.type
        assert torch.equal(parameter, expected[name]), name


def test_a_cast_on_the_way(device, path):
    """A file's values arrive in the dtype that is asked for, rounded as torch rounds them."""
    expected = safetensors.load_file(path, device=str(device))
    loading, casting = tc.creators.from_checkpoint(path), tc.creators.cast(torch.bfloat16)
    with tc.creator_scope(casting), tc.creator_scope(loading):
        model = tc.build(factory, device=device, seed=0)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, expected[name].to(torch.bfloat16)), name


@pytest.mark.parametrize("device", [CUDA], indirect=True)
def test_a_file_as_large_as_a_models(device, tmp_path, record_property):
    """The host keeps no copy, and the device none beside the parameters."""
    values = {f"{i}.weight": torch.full((4096, 4096), float(i)) for i in range(8)}
    safetensors.save_file(values, tmp_path / "large.safetensors")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with tc.creator_scope(tc.creators.from_checkpoint(tmp_path / "large.safetensors")):
        model = tc.build(
            lambda: nn.ModuleList(nn.Linear(4096, 4096, bias=False) for _ in range(8)),
            device=device,
            seed=0,
        )
    assert [p[0, 0].item() for p in model.parameters()] == list(range(8))
    rise = (torch.cuda.max_memory_allocated() - before) / 2**20
    record_property("figure", f"at most {rise:.0f} MiB on the device for 512 MiB")
    assert rise < 512 + 1
