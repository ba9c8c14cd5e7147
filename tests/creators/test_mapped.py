"""Parameters of `from_checkpoint` lie in the file's own pages; those written become private."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import torchcreator as tc
from torchcreator import build
from torchcreator.creators import from_checkpoint

LAYERS = 6


def model():
    return nn.ModuleList(nn.Linear(512, 512, bias=False) for _ in range(LAYERS))


@pytest.fixture
def path(tmp_path):
    save_file(
        {f"{i}.weight": torch.ones(512, 512) for i in range(LAYERS)}, tmp_path / "m.safetensors"
    )
    return tmp_path / "m.safetensors"


def loaded(path, **options):
    with tc.creator_scope(from_checkpoint(path, **options)):
        return build(model, seed=0)


def mapped(path):
    """Return the ranges of addresses where ``path`` lies, and the bytes of its private pages."""
    smaps = Path("/proc/self/smaps")
    if not smaps.exists():
        pytest.skip("needs Linux's account of memory")
    ranges, private, inside = [], 0, False
    for line in smaps.read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            inside = rest[-1:] == [str(path)]
            ranges += [range(*(int(end, 16) for end in first.split("-")))] * inside
        elif first == "Anonymous:" and inside:
            private += 1024 * int(rest[0])
    return ranges, private


def within(path, parameters):
    ranges, _ = mapped(path)
    return [any(p.data_ptr() in pages for pages in ranges) for p in parameters]


@pytest.mark.parametrize("copy", [False, True], ids=["mapped", "copied"])
def test_what_is_loaded_lies_in_the_files_pages(copy, path):
    """And reading it copies none of them; copied values lie elsewhere."""
    made = loaded(path, copy=copy)
    assert sum(p.sum().item() for p in made.parameters()) == LAYERS * 512**2  # every page is read
    assert within(path, made.parameters()) == [not copy] * LAYERS
    assert mapped(path)[1] == 0


def test_only_what_is_written_becomes_private(path):
    """One parameter's pages, of six; it stays where it was."""
    made = loaded(path)
    with torch.no_grad():
        made[3].weight.add_(1)
    _, private = mapped(path)
    assert 512**2 * 4 <= private <= 512**2 * 4 + 2 * resource.getpagesize()  # two ends are shared
    assert within(path, made.parameters()) == [True] * LAYERS


def test_a_loaded_model_trains_and_leaves_the_file(path):
    """Steps write to private pages."""
    before = path.read_bytes()
    made = loaded(path)
    made[1](made[0](torch.randn(5, 512))).sum().backward()
    torch.optim.SGD(made.parameters(), lr=1.0).step()
    assert not torch.equal(made[0].weight, torch.ones(512, 512))
    assert path.read_bytes() == before
