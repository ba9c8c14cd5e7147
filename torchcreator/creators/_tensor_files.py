"""Read what is in checkpoint files: checked first, mapped into memory, never unpickled."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from torchcreator._errors import CheckpointError, VariableTypeError, did_you_mean, shown
from torchcreator.creators._safetensors import safetensors
from torchcreator.creators._stored import File, InFile, InMemory, Stored, damaged

_USUAL = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
"""What a directory is searched for, in this order: transformers' layout."""


def open_files(
    where: str | Path | Sequence[str | Path] | Mapping[str, Any], key: str | None = None
) -> dict[str, Stored]:
    """Return every tensor of a checkpoint by its name, with nothing but headers read.

    Args:
        where: A file, an index of shards, a directory with either, or a list of those; or what
            such a file holds.
        key: Where in what `torch.save` wrote, or in a mapping, the tensors are.

    Raises:
        CheckpointError: A file is missing, truncated or not what it seems; none was unpickled.
    """
    if isinstance(where, Mapping):
        tensors = _tensors(_read_through(where), key, "The mapping")
        return {name: InMemory(tensor) for name, tensor in tensors.items()}
    try:
        paths = [Path(where)] if isinstance(where, (str, Path)) else [Path(path) for path in where]
    except Exception as error:  # iterating over somebody's object may raise anything
        raise VariableTypeError(
            f"from_checkpoint got {shown(where)}.",
            "A checkpoint is a file, an index of shards, a directory, or a list of those.",
            "Pass a path, from_checkpoint('model.safetensors'), say.",
        ) from error
    stored: dict[str, Stored] = {}
    for path in paths:
        for file, names in _files(path):
            found = _read(file, key)
            if absent := sorted(set(names or ()) - set(found)):
                raise damaged(file, f"its index says that it has {_listed(absent)}")
            for name, tensor in found.items():
                if name in stored and stored[name].file != file:
                    raise CheckpointError(
                        f"Two files have a tensor {name!r}: {stored[name].file} and {file}.",
                        "It is not said which of them is meant.",
                        "Pass files that do not overlap.",
                    )
                stored[name] = tensor
    return stored


def _read_through(mapping: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dict(mapping)
    except Exception as error:  # a mapping of somebody's own class may raise anything
        raise VariableTypeError(
            f"from_checkpoint got {shown(mapping)}.",
            f"It cannot be read through: {shown(error)}.",
            "Pass a mapping of names to tensors, model.state_dict(), say.",
        ) from error


def _files(path: Path) -> Iterator[tuple[Path, list[str] | None]]:
    """Yield each file of tensors that a path stands for, with the names an index promises."""
    if path.is_dir():
        path = _in_directory(path)
    if not path.is_file():
        raise CheckpointError(
            f"There is no file {str(path)!r}.",
            "A checkpoint is read before any parameter is made.",
            "Pass a .safetensors or .pt file, an index.json of shards, a directory, or a list.",
        )
    if path.suffix != ".json":
        yield path, None
        return
    shards: dict[str, list[str]] = {}
    for name, shard in _weight_map(path).items():
        shards.setdefault(shard, []).append(name)
    for shard, names in shards.items():
        if not (path.parent / shard).is_file():
            raise damaged(path, f"the shard {shard!r} that it names is not there")
        yield path.parent / shard, names


def _in_directory(path: Path) -> Path:
    for usual in _USUAL:
        if (path / usual).is_file():
            return path / usual
    raise CheckpointError(
        f"The directory {str(path)!r} has no checkpoint.",
        f"It is searched for {', '.join(_USUAL)}.",
        "Pass the files themselves, as a list.",
    )


def _weight_map(path: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"it is no index of shards: {error!r}") from error
    if not isinstance(weight_map, dict) or not all(
        isinstance(file, str) and Path(file).name == file for file in weight_map.values()
    ):
        raise damaged(path, "its weight_map names other things than files beside it")
    return weight_map


def _read(path: Path, key: str | None) -> dict[str, Stored]:
    if path.suffix != ".safetensors":
        return _torch_file(path, key)
    if key is not None:
        raise CheckpointError(
            f"from_checkpoint got key={key!r} for {str(path)!r}.",
            "A safetensors file has tensors by name, and nothing around them.",
            "Leave key= out; rename= is for names that differ.",
        )
    return safetensors(path)


def _torch_file(path: Path, key: str | None) -> dict[str, Stored]:
    """Return the tensors that `torch.save` wrote, read with ``weights_only=True`` and no less."""
    file = File(path)
    try:
        content = _torch_load(path)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{str(path)!r} has other things than tensors.",
            "Unpickling them would run whatever code the file brings: "
            + str(error).partition("\n")[0],
            "Save model.state_dict(), best with safetensors.torch.save_file.",
        ) from error
    except Exception as error:  # torch.load raises nearly anything on a damaged file
        raise damaged(path, f"torch.load says: {str(error).partition(chr(10))[0]}") from error
    tensors = _tensors(content, key, repr(str(path)))
    pages = _pages(path)
    stored: dict[str, Stored] = {}
    for name, tensor in tensors.items():
        begin = _begin(pages, tensor)
        stored[name] = (
            InMemory(tensor, file, name)
            if begin is None
            else InFile(file, name, begin, tensor.shape, tensor.dtype)
        )
    return stored


def _pages(path: Path) -> list[tuple[int, int, int]]:
    """Return where a file's pages are in memory, and in the file; nothing where nobody says."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return []
    found = []
    for line in maps.splitlines():
        ends, _, offset, _, _, *name = line.split(maxsplit=5)
        if name == [str(path.resolve())]:
            first, _, last = ends.partition("-")
            found.append((int(first, 16), int(last, 16), int(offset, 16)))
    return found


def _begin(pages: list[tuple[int, int, int]], tensor: torch.Tensor) -> int | None:
    """Return where in its file a tensor lies, None where that is not seen."""
    if not tensor.is_contiguous() or tensor.is_conj() or tensor.is_neg() or not tensor.numel():
        return None
    begin, length = tensor.data_ptr(), tensor.nbytes
    for first, last, offset in pages:
        if first <= begin and begin + length <= last:
            return begin - first + offset
    return None


def _tensors(content: Any, key: str | None, where: str) -> Mapping[str, torch.Tensor]:
    """Return the tensors by name that are in what was saved, or under a key of it."""
    inner = content
    if key is not None:
        if not isinstance(content, Mapping) or key not in content:
            known = list(content) if isinstance(content, Mapping) else []
            raise CheckpointError(
                f"{where} has no key {key!r}{did_you_mean(key, filter(_is_text, known))}.",
                f"It holds {_content(content)}.",
                "Pass a key that it has, or leave key= out where it has the tensors themselves.",
            )
        inner = content[key]
    if _are_tensors(inner):
        return inner  # type: ignore[no-any-return]
    inside = inner.items() if isinstance(inner, Mapping) else ()
    keys = [name for name, value in inside if _are_tensors(value)]
    raise CheckpointError(
        f"{where} holds {_content(inner)}{'' if key is None else f' under {key!r}'}.",
        "A checkpoint is a mapping of names to tensors.",
        f"Pass key={keys[0]!r}, which has tensors by name."
        if keys and key is None
        else "Save model.state_dict(), and nothing around it.",
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_tensors(content: Any) -> bool:
    return isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    )


def _torch_load(path: Path) -> Any:
    # What torch.save wrote before 1.6 is no zip file, and cannot be mapped.
    mapped = zipfile.is_zipfile(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _content(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    return f"a mapping of {_listed(map(str, content))} to more than tensors"


def _listed(names: Any) -> str:
    names = list(names)
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if names[5:] else "")
