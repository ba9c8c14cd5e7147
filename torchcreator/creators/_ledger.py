"""A ledger of the variables that were made: what each one is, and what was changed on its way."""

from __future__ import annotations

import dataclasses
import fnmatch
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torchcreator._build.context import building
from torchcreator._chain.open_scopes import current
from torchcreator._errors import called, did_you_mean
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.live_modules import full_names
from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.types import VariableKwargs
from torchcreator.constraints._base import Constraint
from torchcreator.creators._changes import differs
from torchcreator.creators._html import html_table
from torchcreator.creators._made import declaration_of_new

_COMPARED = ("dtype", "device", "trainable", "constraint", "synchronization", "aggregation")


@dataclass(frozen=True, kw_only=True)
class Described:
    """One variable in all but its value: what ledgers and reports have in common."""

    name: str
    shape: torch.Size | None
    dtype: torch.dtype
    device: torch.device
    trainable: bool
    constraint: Constraint | None = None
    synchronization: VariableSynchronization = VariableSynchronization.AUTO
    aggregation: VariableAggregation = VariableAggregation.NONE
    tags: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def elements(self) -> int:
        """How many numbers it consists of; 0 while its shape is unknown."""
        return 0 if self.shape is None else self.shape.numel()

    @property
    def nbytes(self) -> int:
        """The bytes that its value takes; 0 while its shape is unknown."""
        return self.elements * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class Entry(Described):
    """One variable, as it was when its creators were through.

    Attributes:
        order: How many variables the ledger held before this one.
        name: Its full name where that is known: in `build` and `recreate`, and later in a plain
            scope, while the model lives; else the name that it was given.
        module: The type of the module that owns it, or None.
        shape: Its shape, or None while that is unknown.
        dtype: Its dtype.
        device: Its device.
        trainable: Whether it requires a gradient.
        constraint: The projection applied after each optimizer step, or None.
        synchronization: When the values of several ranks are brought together.
        aggregation: How one value is made of the values of several ranks.
        tags: What the caller and the creators told each other.
        creators: The creators of the scopes that were open, the innermost first.
        changed: By keyword, what `record` was handed and what the parameter became, where those
            differ: what the creators further out did.

    Example:
        >>> import torchcreator as tc
        >>> ledger = tc.creators.Ledger()
        >>> freeze, record = tc.creators.freeze(), tc.creators.record(ledger)
        >>> with tc.creator_scope(freeze, record):
        ...     _ = tc.variable([1.0, 2.0], name="gain")
        >>> ledger[0].name, ledger["gain"].nbytes, dict(ledger[0].changed)
        ('gain', 8, {'trainable': (None, False)})
    """

    order: int
    module: type[nn.Module] | None
    creators: tuple[str, ...] = ()
    changed: Mapping[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        shape = "?" if self.shape is None else tuple(self.shape)
        frozen = "" if self.trainable else ", not trainable"
        return f"{self.name}: {shape}, {self.dtype}, {self.device}{frozen}"


class Ledger:
    """What `record` writes down: an entry for each variable, in the order of creation.

    It keeps no parameter alive. ``ledger[0]`` and ``ledger["0.weight"]`` are entries of it, by
    order and by name.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> ledger = tc.creators.Ledger()
        >>> with tc.creator_scope(tc.creators.record(ledger)):
        ...     model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> print(ledger)
        0.weight: (3, 2), torch.float32, cpu
        0.bias: (3,), torch.float32, cpu
        2.weight: (1, 3), torch.float32, cpu
        2.bias: (1,), torch.float32, cpu
        >>> ledger["2.bias"].elements
        1
        >>> ledger.assert_created("*.weight", count=2)
    """

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._places: list[_Place | None] = []

    def add(self, parameter: nn.Parameter, given: VariableKwargs) -> None:
        """Write down a variable that was just made.

        Args:
            parameter: What came out.
            given: The keywords that went in.
        """
        declaration = declaration_of_new(parameter)
        entry = _entry(len(self._entries), parameter, declaration, given)
        self._entries.append(entry)
        known = building.get() is not None
        place = None if known else _Place(given.get("module"), given.get("name"), declaration)
        self._places.append(place)

    @property
    def entries(self) -> list[Entry]:
        """Every entry, in the order of creation."""
        self._look_up_names()
        return list(self._entries)

    @property
    def names(self) -> list[str]:
        """The name of each entry, in the order of creation."""
        return [entry.name for entry in self.entries]

    def matching(self, pattern: str) -> list[Entry]:
        """Return the entries whose name a glob matches; its ``*`` matches dots too."""
        return [entry for entry in self.entries if fnmatch.fnmatchcase(entry.name, pattern)]

    def assert_created(self, pattern: str, *, count: int | None = None) -> None:
        """Fail unless variables of that name were made.

        Args:
            pattern: A glob; ``*`` matches dots too.
            count: How many; None means at least one.

        Raises:
            AssertionError: Another number was made. The message lists what was.
        """
        __tracebackhide__ = True
        found = len(self.matching(pattern))
        if found == count or (count is None and found):
            return
        wanted = "at least one variable" if count is None else f"{count} variables"
        message = (
            f"Expected {wanted} named {pattern!r}, and {found} {'was' if found == 1 else 'were'} "
            f"created.\nThe ledger has {len(self)}:\n{self or '  none'}"
        )
        raise AssertionError(message)

    def clear(self) -> None:
        """Forget every entry."""
        self._entries.clear()
        self._places.clear()

    def _look_up_names(self) -> None:
        """Put full names in place of local ones, for the models that are alive now."""
        wanted = {index: place for index, place in enumerate(self._places) if place is not None}
        found = full_names({i: (p.owner(), p.local, p.declaration) for i, p in wanted.items()})
        for index, name in found.items():
            self._entries[index] = dataclasses.replace(self._entries[index], name=name)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __getitem__(self, name: str | int) -> Entry:
        entries = self.entries
        if isinstance(name, int):
            return entries[name]
        found = [entry for entry in entries if entry.name == name]
        if len(found) == 1:
            return found[0]
        near = did_you_mean(name, [entry.name for entry in entries])
        raise KeyError(f"{name!r} is the name of {len(found)} entries{near if not found else ''}")

    def __str__(self) -> str:
        return "\n".join(map(str, self.entries))

    def __repr__(self) -> str:
        return f"<Ledger of {len(self)} variables>"

    def _repr_html_(self) -> str:
        rows = [
            (entry.name, str(entry).partition(": ")[2], ", ".join(entry.creators))
            for entry in self.entries
        ]
        return html_table(f"{len(self)} variables", ("name", "variable", "creators"), rows)


class _Place:
    """Where the full name of a variable may be found: its owner, its declaration."""

    __slots__ = ("declaration", "local", "owner")

    def __init__(
        self, owner: nn.Module | None, local: str | None, declaration: VariableSpec | None
    ) -> None:
        # A module may be referred to weakly; its parameters must not: torch refuses to swap those.
        self.owner = _nobody if owner is None else weakref.ref(owner)
        self.local = local
        self.declaration = declaration


def _nobody() -> None:
    return None


def _entry(
    order: int, parameter: nn.Parameter, declaration: VariableSpec | None, given: VariableKwargs
) -> Entry:
    owner = given.get("module")
    spec = declaration
    became: dict[str, Any] = {
        "dtype": parameter.dtype,
        "device": parameter.device,
        "trainable": parameter.requires_grad,
        "constraint": spec and spec.constraint,
        "synchronization": spec.synchronization if spec else VariableSynchronization.AUTO,
        "aggregation": spec.aggregation if spec else VariableAggregation.NONE,
    }
    return Entry(
        order=order,
        name=spec.name if spec else given.get("name") or "Variable",
        module=None if owner is None else type(owner),
        shape=None if is_lazy(parameter) else parameter.shape,
        tags=spec.tags if spec else given.get("tags") or {},
        creators=tuple(_asked()),
        changed={
            key: (given.get(key), became[key])
            for key in _COMPARED
            if differs(key, given.get(key), became[key])
        },
        **became,
    )


def _asked() -> Iterator[str]:
    """Yield the creators of the open scopes, the innermost first."""
    link = current.get()
    while link is not None:
        yield called(link.creator)
        link = link.outward
