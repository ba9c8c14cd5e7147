"""A part of a tensor in a file is read without the rest, and is the same part of the value."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from torchcreator._errors import CheckpointError
from torchcreator._recorder.boxes import cut, whole
from torchcreator.creators import _stored
from torchcreator.creators._stored import InFile, InMemory, StoredValue
from torchcreator.creators._tensor_files import open_files

SHAPES = {"matrix": (33, 17), "cube": (5, 7, 6), "row": (40,), "scalar": (), "empty": (4, 0)}


def tensors():
    made = {name: torch.randn(shape) for name, shape in SHAPES.items()}
    made["half"] = torch.randn(31, 9).half()
    made["experts"] = torch.arange(4 * 8 * 16).view(4, 8, 16)
    return made


def boxes(shape, count=40):
    choice = random.Random(0)
    yield whole(shape)
    for _ in range(count):
        ends = [sorted((choice.randint(0, n), choice.randint(0, n))) for n in shape]
        yield tuple((start, stop) for start, stop in ends)


@pytest.fixture(params=["safetensors", "torch", "old torch", "unpadded"])
def stored(request, tmp_path):
    state, path = tensors(), tmp_path / "x.pt"
    if request.param == "old torch":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif request.param == "torch":
        torch.save(state, path)
    else:
        path = tmp_path / "x.safetensors"
        save_file(state, path, {"odd": "x"})
        if request.param == "unpadded":
            content = path.read_bytes()
            length = int.from_bytes(content[:8], "little")
            header = content[8 : 8 + length].rstrip() + b" "
            path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    return state, open_files(path), request.param


@pytest.mark.parametrize("at_once", [1 << 22, 300], ids=["one chunk", "many chunks"])
@pytest.mark.parametrize("skipped", [1 << 15, 0], ids=["rows", "pieces"])
@pytest.mark.parametrize("copy", [False, True], ids=["mapped", "copied"])
def test_every_part(stored, copy, at_once, skipped, monkeypatch):
    """Whatever the part, and however it is read, it is that part of the tensor."""
    monkeypatch.setattr(_stored, "_AT_ONCE", at_once)
    monkeypatch.setattr(_stored, "_SKIPPED", skipped)
    state, found, _ = stored
    for name, tensor in state.items():
        for box in boxes(tensor.shape):
            part = found[name].part(box, copy=copy)
            assert part.dtype == tensor.dtype
            assert torch.equal(part, cut(tensor, box)), (name, box)


def test_no_part_has_more_memory_than_it_needs(stored):
    """Saving a part saves the part: its storage is as large as itself."""
    state, found, kind = stored
    if kind == "torch" and not Path("/proc/self/maps").exists():
        pytest.skip("needs Linux's account of where a file's pages are")
    assert isinstance(found["matrix"], InMemory if kind == "old torch" else InFile)
    for box in boxes(SHAPES["matrix"]):
        part = found["matrix"].part(box, copy=False)
        assert part.untyped_storage().nbytes() == part.nbytes
    if kind in ("safetensors", "torch"):  # rows are pages of the file, not copies of them
        rows = found["matrix"].part(((3, 9), (0, 17)), copy=False)
        again = found["matrix"].part(((4, 9), (0, 17)), copy=False)
        assert again.data_ptr() == rows[1:].data_ptr()
        copied = found["matrix"].part(((3, 9), (0, 17)), copy=True)
        assert copied.data_ptr() != rows.data_ptr()
        assert torch.equal(copied, state["matrix"][3:9])


def test_a_value_is_indexed_as_a_tensor_is(stored):
    """Slices read a part; whatever else one may index by is answered from the whole."""
    state, found, _ = stored
    value, expected = StoredValue(found["matrix"], "matrix", None, copy=False), state["matrix"]
    assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
    assert torch.equal(value(), expected)
    for index in (slice(2, 5), (slice(None), slice(1, 4)), 3, ..., (slice(0, 9, 2),), (2, 3)):
        assert torch.equal(value[index], expected[index])
    assert "'matrix' of " in repr(value)


def test_a_mapping_gives_copies():
    """What is in memory already is copied, whole and in part."""
    weight = torch.randn(4, 3)
    found = open_files({"weight": weight})["weight"]
    for box in (whole((4, 3)), ((1, 3), (0, 3)), ((0, 4), (1, 2))):
        part = found.part(box, copy=False)
        assert torch.equal(part, cut(weight, box))
        assert part.untyped_storage().data_ptr() != weight.untyped_storage().data_ptr()


def test_a_file_that_ends_while_it_is_read(tmp_path, monkeypatch):
    """What is truncated in that very moment is an error that names the tensor, not garbage."""
    path = tmp_path / "x.safetensors"
    save_file({"w": torch.randn(40, 40)}, path)
    found = open_files(path)["w"]
    os.truncate(path, path.stat().st_size - 3000)
    monkeypatch.setattr(_stored.File, "check", lambda self, name: None)
    with pytest.raises(CheckpointError, match=r"it ends inside of 'w'"):
        found.part(((0, 40), (3, 9)), copy=False)
