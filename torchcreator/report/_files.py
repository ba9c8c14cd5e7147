"""Write a file whole or not at all, and read an inventory that was kept."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchcreator._errors import VariableValueError

FORMAT = 1
_NEEDED = {"model": str, "torch": str, "torchcreator": str, "variables": list, "totals": dict}


def write(path: str | Path, text: str) -> None:
    """Write text to a file: what was there stays until all of it is written.

    Raises:
        OSError: It cannot be written.
    """
    path = Path(path)
    target = path.resolve()  # a link stays one, and what it leads to is replaced
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("x", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(path: str | Path) -> dict[str, Any]:
    """Return the document that `Inventory.json` wrote into a file.

    Raises:
        OSError: It cannot be read.
        VariableValueError: It is no such document.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # of decoding, too
        raise _no_document(path, str(error)) from None
    return checked(document, path)


def checked(document: Any, source: object) -> dict[str, Any]:
    """Return a document that has what a comparison needs.

    Raises:
        VariableValueError: Something is missing.
    """
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise _no_document(source, f"it lacks 'format': {FORMAT}")
    for key, kind in _NEEDED.items():
        if not isinstance(document.get(key), kind):
            raise _no_document(source, f"its {key!r} is missing or damaged")
    for number, variable in enumerate(document["variables"]):
        if not isinstance(variable, Mapping) or not variable.keys() >= _COLUMNS:
            raise _no_document(source, f"variable {number} lacks a column")
    return dict(document)


_COLUMNS = {
    *("name", "module", "module_type", "shape", "dtype", "device", "elements", "bytes"),
    *("trainable", "constraint", "synchronization", "aggregation", "declared", "ties", "tags"),
    "creators",
}


def _no_document(source: object, reason: str) -> VariableValueError:
    return VariableValueError(
        f"{str(source)!r} is no inventory: {reason}.",
        "Two inventories are compared by their documents, format 1.",
        "Keep one with: torchcreator inspect package.module:factory --json > FILE.json",
    )
