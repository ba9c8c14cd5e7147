"""A file that is another one than when it was opened is refused, however it is read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import torchcreator as tc
from torchcreator._build.build import build
from torchcreator._errors import CheckpointError
from torchcreator._recorder.boxes import whole
from torchcreator.creators import _stored, _tensor_files, from_checkpoint
from torchcreator.creators._tensor_files import open_files

SHAPE = 33, 17
ROWS, COLUMNS = ((3, 9), (0, 17)), ((0, 33), (2, 5))


def tensors():
    return {"matrix": torch.randn(SHAPE), "turned": torch.randn(17, 33).t(), "last": torch.ones(3)}


def safetensors(folder):
    path = folder / "x.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors().items()}, path)
    return path, path


def index(folder):
    _, shard = safetensors(folder)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": dict.fromkeys(tensors(), shard.name)}))
    return path, shard


def of_torch(folder):
    torch.save(tensors(), folder / "x.pt")
    return folder / "x.pt", folder / "x.pt"


def of_old_torch(folder):
    torch.save(tensors(), folder / "x.pt", _use_new_zipfile_serialization=False)
    return folder / "x.pt", folder / "x.pt"


FORMS = {
    "safetensors": safetensors,
    "an index": index,
    "torch": of_torch,
    "old torch": of_old_torch,
}


def replace(path):
    shutil.copyfile(path, f"{path}.new")
    Path(f"{path}.new").replace(path)


def overwrite(path):
    content, seen = path.read_bytes(), path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns + 1))  # clocks of files may be coarse


CHANGES = {
    "shortened": lambda path: os.truncate(path, path.stat().st_size - 100),
    "replaced": replace,
    "overwritten": overwrite,
    "gone": os.remove,
}
REFUSED = r"changed or replaced since it was opened, and '(matrix|turned|last)'"


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["matrix", "turned"])
@pytest.mark.parametrize("box", [whole(SHAPE), ROWS, COLUMNS], ids=["whole", "rows", "columns"])
@pytest.mark.parametrize("copy", [False, True], ids=["mapped", "copied"])
def test_between_opening_and_reading(change, form, name, box, copy, tmp_path):
    """That is told before a page is touched, also where others were read before."""
    path, file = FORMS[form](tmp_path)
    found = open_files(path)
    found["last"].part(whole((3,)), copy=copy)
    CHANGES[change](file)
    with pytest.raises(CheckpointError, match=REFUSED):
        found[name].part(box, copy=copy)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["matrix", "turned"])
@pytest.mark.parametrize("box", [whole(SHAPE), ROWS, COLUMNS], ids=["whole", "rows", "columns"])
@pytest.mark.parametrize("copy", [False, True], ids=["mapped", "copied"])
def test_while_it_is_read(form, name, box, copy, tmp_path, monkeypatch):
    """What was replaced after it was looked at, and before it was read, is not handed out."""
    path, file = FORMS[form](tmp_path)
    found, check, seen = open_files(path), _stored.File.check, []

    def checked(self, tensor):
        check(self, tensor)
        if not seen:
            replace(file)
        seen.append(tensor)

    monkeypatch.setattr(_stored.File, "check", checked)
    with pytest.raises(CheckpointError, match=REFUSED):
        found[name].part(box, copy=copy)
    assert seen == [name]


@pytest.mark.parametrize("form", ["torch", "old torch"])
def test_while_torch_opens_it(form, tmp_path, monkeypatch):
    """Where its tensors lie is not what a file says that took its place since."""
    path, _ = FORMS[form](tmp_path)
    load = _tensor_files._torch_load

    def loaded(path):
        content = load(path)
        replace(path)
        return content

    monkeypatch.setattr(_tensor_files, "_torch_load", loaded)
    found = open_files(path)
    with pytest.raises(CheckpointError, match=REFUSED):
        found["matrix"].part(whole(SHAPE), copy=False)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("copy", [False, True], ids=["mapped", "copied"])
def test_after_all_was_read(change, copy, tmp_path):
    """A model is not handed out whose file was changed while the rest of it was made."""
    path = tmp_path / "x.safetensors"
    save_file(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).state_dict(), path)

    def late(next_creator, **kwargs):
        made = next_creator(**kwargs)
        if kwargs["name"] == "1.bias":
            CHANGES[change](path)
        return made

    with (
        tc.creator_scope(late, from_checkpoint(path, copy=copy)),
        pytest.raises(CheckpointError, match="changed or replaced since it was opened"),
    ):
        build(lambda: nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
