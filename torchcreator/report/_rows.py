"""One variable of an inspected model: its columns, and what each creator decided about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torchcreator.creators._changes import in_words
from torchcreator.creators._ledger import Described

TIED = "names"
"""The tag under which `build` tells creators all names of a tied parameter."""


@dataclass(frozen=True)
class Decision:
    """What one creator did to one variable.

    Attributes:
        creator: What it is called; others of that name are numbered, ``"frozen (2)"``.
        opened: The file and line that opened its scope, where that happened in the factory.
        changed: By keyword, what the creator was handed and what it handed on, in words; under
            ``"parameter"`` what it received and what it returned in its place.
        answered: Whether it made the parameter itself, and asked no creator further out.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.freeze()):
        ...     decision = tc.inspect(lambda: nn.Linear(2, 3))["bias"].decisions[0]
        >>> decision.creator, decision.changed["trainable"]
        ('freeze()', ('True', 'False'))
    """

    creator: str
    opened: str | None = None
    changed: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    answered: bool = False

    def __str__(self) -> str:
        told = [f"{keyword} {old} -> {new}" for keyword, (old, new) in self.changed.items()]
        if self.answered:
            told.insert(0, "answered itself")
        return f"{self.creator}: {', '.join(told)}"

    def document(self) -> dict[str, Any]:
        """Return it as plain data, fit for JSON."""
        return {
            "creator": self.creator,
            "changed": {keyword: list(pair) for keyword, pair in self.changed.items()},
            "answered": self.answered,
            "opened": self.opened,
        }


@dataclass(frozen=True, kw_only=True)
class Row(Described):
    """One variable of a model; a tied parameter is one, by its first name.

    Attributes:
        name: Its full name.
        module: The path of the module that owns it, ``""`` for the model itself.
        module_type: That module's type.
        shape: Its shape, or None while that is unknown.
        dtype: Its dtype.
        device: Where it is, or will be.
        trainable: Whether it requires a gradient.
        constraint: The projection applied after each optimizer step, or None.
        synchronization: When the values of several ranks are brought together.
        aggregation: How one value is made of the values of several ranks.
        tags: What the caller and the creators told each other.
        declared: Whether a creator or `variable` made it; the policies of others are the defaults.
        ties: The other names of the same parameter.
        decisions: What the creators changed, the innermost first; those that changed nothing are
            left out.
        placements: How it is sharded, or None.
        local_nbytes: The bytes that this process holds of it.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> row = tc.inspect(nn.Linear(2, 3))["weight"]
        >>> row.shape, row.nbytes, row.module_type, row.declared
        (torch.Size([3, 2]), 24, 'Linear', False)
    """

    module: str
    module_type: str
    declared: bool
    ties: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()
    placements: str | None = None
    local_nbytes: int = 0

    def document(self) -> dict[str, Any]:
        """Return it as plain data, fit for JSON."""
        return {
            "name": self.name,
            "module": self.module,
            "module_type": self.module_type,
            "shape": None if self.shape is None else list(self.shape),
            "dtype": in_words("dtype", self.dtype),
            "device": str(self.device),
            "elements": self.elements,
            "bytes": self.nbytes,
            "trainable": self.trainable,
            "constraint": self.constraint and in_words("constraint", self.constraint),
            "synchronization": self.synchronization.name,
            "aggregation": self.aggregation.name,
            "declared": self.declared,
            "ties": list(self.ties),
            "tags": {str(key): in_words("tag", value) for key, value in self.tags.items()},
            "creators": [decision.document() for decision in self.decisions],
            "placements": self.placements,
            "local_bytes": self.local_nbytes,
        }
