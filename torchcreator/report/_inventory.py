"""What `inspect` returns: the variables of a model, to read, to print and to keep."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from torchcreator._errors import VariableValueError, did_you_mean
from torchcreator.creators._changes import in_words
from torchcreator.report import _difference, _files, _text
from torchcreator.report._rows import Row

_DIGITS = re.compile(r"(\d+)")

_ORDERS: Mapping[str, Callable[[Row], Any]] = {
    **_text.COLUMNS,
    "name": lambda row: _natural(row.name),
    "shape": lambda row: tuple(row.shape or ()),
    "bytes": lambda row: row.nbytes,
    "elements": lambda row: row.elements,
    "trainable": lambda row: row.trainable,
}


@dataclass(frozen=True, repr=False)
class Inventory:
    """The variables of one model; each tied one once.

    ``inventory["0.weight"]`` is a variable by any of its names, ``inventory[0]`` the first.

    Attributes:
        model: What the model is called: its class, or its factory.
        rows: The variables, in the order of ``named_parameters``.
        buffers: How many buffers the model has besides.
        buffer_nbytes: Their bytes.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> inventory = tc.inspect(nn.Sequential, nn.Linear(2, 3), nn.Linear(3, 1))
        >>> [row.name for row in inventory.ordered("bytes", reverse=True)]
        ['0.weight', '0.bias', '1.weight', '1.bias']
        >>> inventory.nbytes, inventory.matching("*.bias").nbytes
        (52, 16)
        >>> inventory[-1] is inventory["1.bias"]
        True
    """

    model: str
    rows: tuple[Row, ...]
    buffers: int = 0
    buffer_nbytes: int = 0

    @property
    def nbytes(self) -> int:
        """The bytes that all values take together."""
        return sum(row.nbytes for row in self.rows)

    @property
    def elements(self) -> int:
        """How many numbers the variables consist of."""
        return sum(row.elements for row in self.rows)

    def matching(self, pattern: str) -> Inventory:
        """Return the variables one of whose names a glob matches.

        Its ``*`` matches dots too; as in `creators.where`, ``"*.bias"`` means every bias.
        """
        names = ((row, (row.name, *row.ties)) for row in self.rows)
        rows = [row for row, known in names if any(_matches(name, pattern) for name in known)]
        return dataclasses.replace(self, rows=tuple(rows))

    def ordered(self, column: str, *, reverse: bool = False) -> Inventory:
        """Return the same variables in the order of a column.

        Args:
            column: The heading of a column of the table, or ``"elements"``.
            reverse: Whether the last comes first: of bytes, the largest.

        Raises:
            VariableValueError: There is no such column.
        """
        order = _ORDERS.get(column)
        if order is None:
            raise VariableValueError(
                f"There is no column {column!r}{did_you_mean(column, _ORDERS)}.",
                "Variables are ordered by what the table shows of them.",
                f"Pass one of {', '.join(_ORDERS)}.",
            )
        return dataclasses.replace(self, rows=tuple(sorted(self.rows, key=order, reverse=reverse)))

    def totals(self, depth: int = 1) -> dict[str, Any]:
        """Return the sums in all, by module, dtype and trainability as plain data.

        A module has what the modules inside it have, so the first one, the model itself, has all.

        Args:
            depth: How many levels of modules below the model to list.
        """
        trained = [row for row in self.rows if row.trainable]
        return {
            **_sums(self.rows),
            "trainable_elements": sum(row.elements for row in trained),
            "trainable_bytes": sum(row.nbytes for row in trained),
            "by_module": self._by("module", lambda row: _paths_above(row.module)[: depth + 1]),
            "by_dtype": self._by("dtype", lambda row: [in_words("dtype", row.dtype)]),
            "by_trainable": self._by("trainable", lambda row: [row.trainable]),
            "buffers": self.buffers,
            "buffer_bytes": self.buffer_nbytes,
        }

    def _by(
        self, column: str, groups_of: Callable[[Row], Iterable[Hashable]]
    ) -> list[dict[str, Any]]:
        groups: dict[Hashable, list[Row]] = {}
        for row in self.rows:
            for group in groups_of(row):
                groups.setdefault(group, []).append(row)
        return [{column: group, **_sums(members)} for group, members in groups.items()]

    def document(self, depth: int = 1) -> dict[str, Any]:
        """Return all of it as plain data: the format is that of ``torchcreator inspect --json``.

        Args:
            depth: How many levels of modules its totals list.
        """
        return {
            "format": _files.FORMAT,
            "torchcreator": metadata.version("torchcreator"),
            "torch": torch.__version__,
            "model": self.model,
            "variables": [row.document() for row in self.rows],
            "totals": self.totals(depth),
        }

    def json(self, depth: int = 1) -> str:
        """Return `document` as JSON."""
        return json.dumps(self.document(depth), indent=1, allow_nan=False)

    def html(
        self, path: str | Path, *, before: Inventory | Mapping[str, Any] | str | Path | None = None
    ) -> None:
        """Write one HTML file to look at it with: a map by bytes, a table to search and sort.

        Args:
            path: The file. It holds all it needs; what it held before stays until all is written.
            before: What to compare it with: another inventory, its document, or the file that
                has it as JSON.

        Raises:
            OSError: The file cannot be written.
            VariableValueError: ``before`` is no inventory.
        """
        from torchcreator.report._page import page  # most inventories are read elsewhere

        _files.write(path, page(self.document(), None if before is None else _document(before)))

    def difference(self, before: Inventory | Mapping[str, Any] | str | Path) -> str:
        """Return what was added, removed and changed since another inventory, a line for each.

        Args:
            before: Another inventory, its document, or the file that has it as JSON.

        Raises:
            VariableValueError: ``before`` is no inventory.

        Example:
            >>> import torchcreator as tc
            >>> from torch import nn
            >>> before = tc.inspect(nn.Linear, 2, 3)
            >>> with tc.creator_scope(tc.creators.freeze(name="bias")):
            ...     after = tc.inspect(nn.Linear, 2, 3)
            >>> print(after.difference(before))
            ~ bias  trainable True -> False
            0 added, 0 removed, 1 changed; 36 B -> 36 B
        """
        return _difference.difference(_document(before), self.document())

    def training(self, optimizer: str, *, ranks: int = 1) -> dict[str, Any]:
        """Return the bytes that training takes on each rank, by the policies declared.

        Args:
            optimizer: ``"adamw"``, ``"sgd"``, ``"sgd+momentum"`` or another of ``torch.optim``, in
                lower case.
            ranks: How many processes train.

        Returns:
            Plain data: under ``"replicated"``, where each rank has every variable, and under
            ``"sharded"``, where FSDP2 leaves it ``ceil(rows / ranks)`` of each that is one value
            on all ranks, the bytes of ``"parameters"``, ``"gradients"``, ``"states"`` and all
            three ``"together"``. Buffers and activations are not counted.

        Raises:
            VariableValueError: The optimizer is not known.

        Example:
            >>> import torchcreator as tc
            >>> from torch import nn
            >>> taken = tc.inspect(nn.Linear, 1000, 8, bias=False).training("adamw", ranks=4)
            >>> taken["replicated"]["together"], taken["sharded"]["together"]
            (128000, 32000)
        """
        from torchcreator.report import _training

        return _training.training(self.rows, optimizer, ranks)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: str | int) -> Row:
        if not isinstance(which, str):
            return self.rows[which]
        for row in self.rows:
            if which == row.name or which in row.ties:
                return row
        known = [one for row in self.rows for one in (row.name, *row.ties)]
        message = f"{which!r}{did_you_mean(which, known)}"
        raise KeyError(message)

    def __str__(self) -> str:
        return _text.table(_text.lines_of(self.rows), self.totals())

    def __repr__(self) -> str:
        return f"<Inventory of {self.model}: {len(self)} variables, {self.nbytes} bytes>"

    def _repr_html_(self) -> str:
        from torchcreator.report._notebook import notebook
        from torchcreator.report._page import page

        title = f"{self.model}: {len(self):,} variables, {_text.size(self.nbytes)}"
        document = self.document()
        return notebook(title, _text.lines_of(self.rows), document["totals"], page(document))


def _sums(rows: Sequence[Row]) -> dict[str, int]:
    return {
        "variables": len(rows),
        "elements": sum(row.elements for row in rows),
        "bytes": sum(row.nbytes for row in rows),
    }


def _paths_above(path: str) -> list[str]:
    """Return the path of each module around what lies at ``path``, the model itself first."""
    parts = path.split(".") if path else []
    return ["", *(".".join(parts[: end + 1]) for end in range(len(parts)))]


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(f".{name}", pattern)


def _natural(name: str) -> list[Any]:
    """Return a key by which layers.2 comes before layers.10."""
    return [int(part) if part.isdecimal() else part for part in _DIGITS.split(name)]


def _document(given: Any) -> dict[str, Any]:
    if isinstance(given, Inventory):
        return given.document()
    if isinstance(given, Mapping):
        return _files.checked(given, "before")
    return _files.read(given)
