"""Packages for a machine without a network: wheels, unpacked beside what it has."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

NEEDED = {"pytest": "9", "pytest-timeout": "2.3", "pytest-xdist": "3.6", "hypothesis": "6"}
"""What the tests import beside torch and numpy, with the least version that serves."""
USEFUL = ("safetensors", "transformers")
"""What some of the questions are about; without it they are skipped, and say so."""


def unpack(wheels: Path, into: Path) -> list[str]:
    """Unpack wheels, and let this process and those that it starts import them first.

    Args:
        wheels: A folder of wheels of pure Python.
        into: An empty folder.

    Returns:
        The names of the files.

    Raises:
        ValueError: There is none, or one is for another machine.
    """
    found = sorted(wheels.glob("*.whl"))
    if not found:
        raise ValueError(f"{wheels} has no wheels")
    for wheel in found:
        if not wheel.stem.endswith("-none-any"):
            raise ValueError(f"{wheel.name} is not pure Python: install it instead")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(into)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(into), *([before] if before else [])])
    sys.path.insert(0, str(into))
    importlib.invalidate_caches()
    return [wheel.name for wheel in found]


def missing() -> Iterator[str]:
    """Yield what is needed and not there, as pip wants it written."""
    for name, least in NEEDED.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield f"{name}>={least}"
            continue
        if _numbers(version) < _numbers(least):
            yield f"{name}>={least}"


def absent() -> Iterator[str]:
    """Yield what would be of use and is not there."""
    for name in USEFUL:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
