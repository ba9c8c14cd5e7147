"""Checkpoint files are read exactly, or refused before anything is made."""

from __future__ import annotations

import json
import pickle
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from torchcreator._errors import CheckpointError
from torchcreator._recorder.boxes import whole
from torchcreator.creators._safetensors import DTYPES
from torchcreator.creators._tensor_files import open_files


def state():
    return {
        "weight": torch.arange(6.0).view(2, 3),
        "bias": torch.ones(3, dtype=torch.bfloat16),
        "steps": torch.tensor(7),
        "empty": torch.empty(0, 4),
    }


@pytest.fixture
def path(tmp_path):
    save_file(state(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path / "model.safetensors"


def loaded(stored):
    return stored.part(whole(stored.shape), copy=False)


def same(read, expected):
    assert set(read) == set(expected)
    for name, tensor in expected.items():
        value = loaded(read[name])
        assert value.dtype == tensor.dtype == read[name].dtype
        assert value.shape == tensor.shape == read[name].shape
        assert torch.equal(value, tensor)
        assert value.is_contiguous()


def test_what_safetensors_wrote_is_read(path):
    """Names, shapes, dtypes and values are those of the file."""
    same(open_files(path), state())


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_every_dtype_is_read(dtype, tmp_path):
    """Each dtype that both torch and the format have survives the way."""
    tensor = torch.arange(4).to(dtype)
    save_file({"x": tensor}, tmp_path / "x.safetensors")
    value = loaded(open_files(tmp_path / "x.safetensors")["x"])
    assert value.dtype == dtype
    assert torch.equal(value.view(torch.uint8), tensor.view(torch.uint8))


def test_each_tensor_has_memory_of_its_own(path):
    """Saving one tensor does not save the file: its storage is as large as itself."""
    read = open_files(path)
    assert loaded(read["weight"]).untyped_storage().nbytes() == 24
    assert loaded(read["weight"]).data_ptr() == loaded(read["weight"]).data_ptr()  # no copy


def test_writing_to_a_mapped_tensor_leaves_the_file(path):
    """The pages are private."""
    before = path.read_bytes()
    loaded(open_files(path)["weight"]).fill_(100)
    assert path.read_bytes() == before
    same({"weight": open_files(path)["weight"]}, {"weight": state()["weight"]})


def test_a_file_without_padding_is_read(tmp_path):
    """Tensors that do not lie at a multiple of their size are copied, and right."""
    header = {
        "flag": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "x": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text + b"\x05" + struct.pack("<2f", 1.5, -2.0)
    (tmp_path / "odd.safetensors").write_bytes(data)
    read = open_files(tmp_path / "odd.safetensors")
    assert loaded(read["x"]).tolist() == [1.5, -2.0]
    assert loaded(read["flag"]).tolist() == [5]


def test_a_truncated_file_is_refused_wherever_it_ends(path, tmp_path):
    """Every proper beginning of a file is refused, with its name."""
    data = path.read_bytes()
    short = tmp_path / "short.safetensors"
    for length in range(len(data)):
        short.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"short.safetensors' cannot be read"):
            open_files(short)
    short.write_bytes(data + b"\0")
    with pytest.raises(CheckpointError, match="its tensors need"):
        open_files(short)


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_header_is_refused_or_harmless(tmp_path_factory, data):
    """Any changed byte of the header gives an error of ours, or tensors within the file."""
    folder = tmp_path_factory.mktemp("damaged")
    save_file(state(), folder / "good.safetensors")
    content = bytearray((folder / "good.safetensors").read_bytes())
    length = 8 + int.from_bytes(content[:8], "little")
    content[data.draw(st.integers(0, length - 1))] = data.draw(st.integers(0, 255))
    (folder / "bad.safetensors").write_bytes(content)
    try:
        read = open_files(folder / "bad.safetensors")
    except CheckpointError:
        return
    for stored in read.values():
        assert loaded(stored).shape == stored.shape


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DAMAGED = {
    "dtype": ({**ENTRY, "dtype": "F4"}, "a dtype that torch has not: 'F4'"),
    "no dtype": ({"shape": [2], "data_offsets": [0, 8]}, "the header of 'x'"),
    "negative": ({**ENTRY, "shape": [-2]}, "has bytes 0 to 8"),
    "size": ({**ENTRY, "shape": [3]}, "has bytes 0 to 8"),
    "gap": ({**ENTRY, "data_offsets": [8, 16]}, "overlap or leave a gap"),
    "not an entry": ([], "the header of 'x'"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_header_that_cannot_be_is_refused(case, tmp_path):
    """The error says what is wrong with which tensor."""
    entry, message = DAMAGED[case]
    text = json.dumps({"x": entry}).encode()
    data = struct.pack("<Q", len(text)) + text + bytes(16 if case == "gap" else 8)
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        open_files(tmp_path / "x.safetensors")


def sharded(folder, *, files=("a.safetensors", "b.safetensors")):
    parts = [{"weight": state()["weight"]}, {"bias": state()["bias"]}]
    for file, part in zip(files, parts, strict=True):
        save_file(part, folder / file)
    weight_map = {name: file for file, part in zip(files, parts, strict=True) for name in part}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def test_an_index_stands_for_its_shards(tmp_path):
    """The index, its directory, and the list of its shards give the same tensors."""
    index = sharded(tmp_path)
    expected = {name: state()[name] for name in ("weight", "bias")}
    same(open_files(index), expected)
    same(open_files(tmp_path), expected)
    same(open_files([tmp_path / "a.safetensors", str(tmp_path / "b.safetensors")]), expected)


def test_an_index_that_promises_too_much_is_refused(tmp_path):
    """A shard that is gone, or lacks a tensor, is an error that names it."""
    index = sharded(tmp_path)
    save_file({"other": torch.ones(1)}, tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match=r"b.safetensors'.*\n.*its index says.*'bias'"):
        open_files(index)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"the shard 'b.safetensors' that it names is not"):
        open_files(index)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"x": "../x.safetensors"}}'],
    ids=["empty", "list", "nothing", "no map", "elsewhere"],
)
def test_what_is_no_index_is_refused(text, tmp_path):
    """An index is a map of names to files beside it, and nothing else."""
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_files(tmp_path)


def test_names_in_two_files_are_refused(path, tmp_path):
    """It would not be clear which one is meant."""
    save_file({"bias": torch.ones(1)}, tmp_path / "more.safetensors")
    with pytest.raises(CheckpointError, match="Two files have a tensor 'bias'"):
        open_files([path, tmp_path / "more.safetensors"])


def test_what_is_not_there_is_refused(tmp_path):
    """A missing file and an empty directory are errors that say what is looked for."""
    with pytest.raises(CheckpointError, match="There is no file"):
        open_files(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match=r"(?s)has no checkpoint.*model.safetensors.index"):
        open_files(tmp_path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_what_torch_saved_is_read(zipped, tmp_path):
    """A state_dict of ``torch.save``, in either of its formats, serves too."""
    torch.save(state(), tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    same(open_files(tmp_path / "m.pt"), state())


class Attack:
    """Runs code when it is unpickled."""

    ran = False

    def __reduce__(self):
        return exec, ("from tests.creators import test_tensor_files as t; t.Attack.ran = True",)


def test_nothing_is_ever_unpickled(tmp_path):
    """A file that would run code is refused, and the code does not run."""
    torch.save({"weight": torch.ones(1), "x": Attack()}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"weight": Attack()}))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match=r"other things than tensors|cannot be read"):
            open_files(tmp_path / name)
    assert not Attack.ran


def test_a_truncated_torch_file_is_refused(tmp_path):
    """Half a file is an error of ours, not one of zipfile's."""
    torch.save(state(), tmp_path / "m.pt")
    data = (tmp_path / "m.pt").read_bytes()
    for length in (0, 3, len(data) // 2, len(data) - 1):
        (tmp_path / "m.pt").write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"m.pt' (cannot be read|has other things)"):
            open_files(tmp_path / "m.pt")


@pytest.mark.parametrize("content", [{"model": {"w": torch.ones(1)}}, [torch.ones(1)], 3], ids=str)
def test_a_torch_file_holds_a_state_dict(content, tmp_path):
    """Anything around the state_dict is refused, and shown."""
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="A checkpoint is a mapping of names to tensors"):
        open_files(tmp_path / "m.pt")


def test_a_header_is_an_object(tmp_path):
    """JSON of another kind is a damaged file, not an error from inside."""
    text = b"[1, 2]"
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(CheckpointError, match="its header is no JSON object"):
        open_files(tmp_path / "x.safetensors")
