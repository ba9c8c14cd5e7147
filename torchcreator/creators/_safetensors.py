"""Read a file of the safetensors format: checked first, then mapped into memory."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from torchcreator.creators._stored import File, InFile, Stored, damaged

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
"""The dtypes of the safetensors format, https://huggingface.co/docs/safetensors#format."""


def safetensors(path: Path) -> dict[str, Stored]:
    """Return the tensors of a safetensors file, whose header is checked against its size."""
    file = File(path)
    header, start = _header(path, file.size)
    stored: dict[str, Stored] = {}
    pieces: list[tuple[int, int]] = []
    for name, entry in header.items():
        shape, dtype, begin, end = _checked(path, name, entry)
        pieces.append((begin, end))
        stored[name] = InFile(file, name, start + begin, shape, dtype)
    covered = 0
    for begin, end in sorted(pieces):
        if begin != covered:
            raise damaged(path, f"its tensors overlap or leave a gap at byte {start + covered}")
        covered = end
    if start + covered != file.size:
        raise damaged(path, f"it has {file.size} bytes, and its tensors need {start + covered}")
    return stored


def _header(path: Path, size: int) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file, and where it ends."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise damaged(path, f"it has {size} bytes, and its header should end at {8 + length}")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise damaged(path, f"its header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise damaged(path, "its header is no JSON object")
    header.pop("__metadata__", None)
    return header, 8 + length


def _checked(path: Path, name: str, entry: Any) -> tuple[torch.Size, torch.dtype, int, int]:
    """Return shape, dtype, begin and end of a tensor, as the header says, if that can be."""
    try:
        dtype, shape = DTYPES.get(entry["dtype"]), torch.Size(entry["shape"])
        begin, end = map(int, entry["data_offsets"])
        whole = math.prod(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, f"the header of {name!r} is {entry!r}") from error
    if dtype is None:
        raise damaged(path, f"{name!r} has a dtype that torch has not: {entry['dtype']!r}")
    if min((*shape, begin), default=begin) < 0 or end - begin != whole * dtype.itemsize:
        raise damaged(
            path, f"{name!r}, {tuple(shape)} of {dtype}, has bytes {begin} to {end} for its value"
        )
    return shape, dtype, begin, end
