"""What a variable was declared to be, where that is kept, and how it is found again.

A parameter in a module has its declaration in a table in the module's ``__dict__``, by local
name, because attributes of a parameter are lost in deepcopy, ``to_empty``, assign-loading and
FSDP2. A parameter outside any module carries it itself.
"""

from __future__ import annotations

import copy
import importlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from torchcreator import _private
from torchcreator._enums import VariableAggregation, VariableSynchronization
from torchcreator._errors import DistributedError
from torchcreator.constraints import picklable
from torchcreator.constraints._shards import is_sharded

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from torchcreator._types import Constraint

OWN = "_torchcreator_spec"
"""The attribute of a parameter that carries its own declaration."""
TABLE = "_torchcreator_specs"
"""The key of a module's ``__dict__`` that holds its table."""


@dataclass(frozen=True)
class LostGroup:
    """Stands for a process group that was dropped when its variable was pickled."""

    name: str


@dataclass(frozen=True)
class VariableSpec:
    """What a variable was declared to be.

    Attributes:
        name: The name it was given, uniquified unless a module owns it.
        shape: Its shape, or None while that is unknown.
        dtype: Its dtype.
        trainable: Whether it was made with ``requires_grad``.
        constraint: The projection applied after each optimizer step, or None.
        synchronization: When the values of several ranks are brought together.
        aggregation: How one value is made of the values of several ranks.
        caching_device: The device on which `read_value` keeps a copy, or None.
        process_group: The ranks concerned; None means the default group.
        tags: What the caller told the creators.
        validate_shape: False where the shape was allowed to be unknown.

    Example:
        >>> import torchcreator as tc
        >>> p = tc.variable([1.0, 2.0], name="gain", aggregation="sum")
        >>> tc.spec_of(p).aggregation
        <VariableAggregation.SUM: 1>
    """

    name: str
    shape: torch.Size | None
    dtype: torch.dtype
    trainable: bool
    constraint: Constraint | None
    synchronization: VariableSynchronization
    aggregation: VariableAggregation
    caching_device: torch.device | None
    process_group: ProcessGroup | LostGroup | None
    tags: Mapping[str, Any]
    validate_shape: bool

    def __deepcopy__(self, memo: dict[int, Any]) -> VariableSpec:
        # Frozen, and a process group cannot be copied: copies share it.
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_spec, _portable(tuple(getattr(self, f.name) for f in fields(self)))

    def group(self) -> ProcessGroup | None:
        """Return the process group; None means the default one.

        Raises:
            DistributedError: The group was dropped when the variable was pickled.
        """
        if isinstance(self.process_group, LostGroup):
            raise DistributedError(
                f"The process group {self.process_group.name!r} of variable {self.name!r} is gone.",
                "A process group cannot be pickled, and the default group would be another one.",
                "Build the model again with process_group=..., then load its state_dict.",
            )
        return self.process_group


class Declaration:
    """The fields of a spec, until somebody asks for the spec itself.

    The dataclass costs more to make than a parameter; a tuple costs next to nothing.
    """

    __slots__ = ("fields",)

    def __init__(self, *values: Any) -> None:
        self.fields = values
        if values[4] is not None:
            _announce_constraint()

    @property
    def spec(self) -> VariableSpec:
        """The spec that these fields make."""
        return VariableSpec(*self.fields)

    def inherited(self) -> Declaration:
        """Return the declaration of a part that this variable was split into.

        Policies and tags hold for the parts of a normalised weight; its constraint does not.
        """
        name, shape, dtype, trainable, _, *policies = self.fields
        return Declaration(name, shape, dtype, trainable, None, *policies)

    def __deepcopy__(self, memo: dict[int, Any]) -> Declaration:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_declaration, _portable(self.fields)


class SpecTable:
    """The declarations of one module's parameters, by local name.

    It refers to the module's own ``_parameters`` and ``_modules``, not to the module: those
    dictionaries are copied, shared and pickled exactly as the module is, so the table follows
    every way of copying a module without asking who its owner is.
    """

    __slots__ = ("__weakref__", "declared", "modules", "parameters")

    def __init__(
        self,
        parameters: dict[str, nn.Parameter | None],
        modules: dict[str, nn.Module | None],
        declared: dict[str, Declaration],
    ) -> None:
        self.parameters = parameters
        self.modules = modules
        self.declared = declared
        _live.add(weakref.ref(self, _live.discard))

    def held(self) -> Iterator[tuple[torch.Tensor, Declaration]]:
        """Yield each declared parameter that exists, with its declaration."""
        for name, declaration in list(self.declared.items()):
            parameter = self.parameters.get(name)
            if parameter is not None:
                yield parameter, declaration
            else:
                yield from self._parts(name, declaration)

    def _parts(self, name: str, declaration: Declaration) -> Iterator[tuple[Any, Declaration]]:
        """Yield what `parametrize`, `weight_norm` and `spectral_norm` turned ``name`` into."""
        parametrizations: Any = self.modules.get("parametrizations")
        if parametrizations is not None and name in parametrizations:
            for local, part in parametrizations[name]._parameters.items():
                whole = local == "original"
                yield part, declaration if whole else declaration.inherited()
        elif (original := self.parameters.get(f"{name}_orig")) is not None:
            yield original, declaration
        else:
            for suffix in ("_g", "_v"):
                if (part := self.parameters.get(name + suffix)) is not None:
                    yield part, declaration.inherited()

    def __deepcopy__(self, memo: dict[int, Any]) -> SpecTable:
        copied = SpecTable(
            copy.deepcopy(self.parameters, memo),
            copy.deepcopy(self.modules, memo),
            dict(self.declared),
        )
        for listener in copy_listeners:
            listener(self, copied)
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        return SpecTable, (self.parameters, self.modules, self.declared)


_live: set[weakref.ref[SpecTable]] = set()
copy_listeners: list[Callable[[SpecTable, SpecTable], None]] = []
"""Called with the old and the new table when a module is deep-copied."""


def _tables() -> Iterator[SpecTable]:
    # tuple(set) is one step for other threads; iterating the set itself is not.
    for reference in tuple(_live):
        table = reference()
        if table is not None:
            yield table


def attach(parameter: torch.Tensor, declaration: Declaration) -> None:
    """Let a parameter outside any module carry its declaration."""
    attributes = parameter.__dict__
    attributes[OWN] = declaration
    # Parameter.__deepcopy__ drops attributes; without it copy goes through __reduce_ex__, which
    # keeps attributes and ties.
    attributes["__deepcopy__"] = None


def table_of(module: nn.Module) -> SpecTable:
    """Return a module's table, made if it has none."""
    attributes = module.__dict__
    table: SpecTable | None = attributes.get(TABLE)
    if table is None:
        table = attributes[TABLE] = SpecTable(module._parameters, module._modules, {})
    return table


def declare(module: nn.Module, name: str, declaration: Declaration) -> None:
    """Put a declaration into a module's table under a local name."""
    table_of(module).declared[name] = declaration


def is_declared(module: nn.Module, name: str) -> bool:
    """Return whether a module's table has a declaration under a local name."""
    table: SpecTable | None = module.__dict__.get(TABLE)
    return table is not None and name in table.declared


def declaration_of(parameter: torch.Tensor) -> Declaration | None:
    """Return what a parameter was declared as, or None."""
    own: Declaration | None = parameter.__dict__.get(OWN)
    return own if own is not None else declarations_of([parameter])[0]


def declarations_of(parameters: Sequence[torch.Tensor]) -> list[Declaration | None]:
    """Return what each parameter was declared as, in one pass over the live tables."""
    found: dict[int, Declaration] = {}
    for table in _tables():
        for held, declaration in table.held():
            found[id(held)] = declaration
    if any(is_sharded(p) and id(p) not in found and OWN not in p.__dict__ for p in parameters):
        # FSDP2 takes its shards out of the module while that is gathered, which its root stays
        # after an evaluation forward.
        for p in _private.all_sharded_parameters():
            if id(p.whole) in found:
                found[id(p.sharded)] = found[id(p.whole)]
    return [p.__dict__.get(OWN, found.get(id(p))) for p in parameters]


def spec_of(parameter: torch.Tensor) -> VariableSpec | None:
    """Return what a parameter was declared to be, or None where no creator made it.

    It finds the spec from the parameter object alone, also after ``copy.deepcopy``, pickling,
    ``.to()``, ``to_empty``, ``load_state_dict(assign=True)``, DDP, FSDP2 and ``torch.compile``.
    Many parameters at once are looked up faster by `named_specs`.

    Args:
        parameter: A parameter, of a module or on its own.

    Example:
        >>> import copy
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> class Scale(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.gain = tc.variable([1.0], name="gain", constraint="non_neg")
        >>> tc.spec_of(copy.deepcopy(Scale()).gain).constraint
        NonNeg()
    """
    declaration = declaration_of(parameter)
    return None if declaration is None else declaration.spec


def specs_of(parameters: Sequence[torch.Tensor]) -> list[VariableSpec | None]:
    """Return the spec of each parameter, or None, in one pass."""
    return [None if d is None else d.spec for d in declarations_of(parameters)]


def named_specs(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, VariableSpec]]:
    """Yield ``(full name, parameter, spec)`` of every parameter that has a spec.

    The order is that of ``model.named_parameters()``; a tied parameter comes once.

    Args:
        model: Any module.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> def frozen(next_creator, **kwargs):
        ...     return next_creator(**{**kwargs, "trainable": False})
        >>> with tc.creator_scope(frozen):
        ...     model = nn.Sequential(nn.Linear(2, 3))
        >>> [(name, spec.trainable) for name, _, spec in tc.named_specs(model)]
        [('0.weight', False), ('0.bias', False)]
    """
    named = list(model.named_parameters())
    for (name, parameter), spec in zip(named, specs_of([p for _, p in named]), strict=True):
        if spec is not None:
            yield name, parameter, spec


_constraint_count = 0
_constraint_listeners: list[Callable[[], None]] = []


def _announce_constraint() -> None:
    global _constraint_count
    _constraint_count += 1
    while _constraint_listeners:
        _constraint_listeners.pop()()


def constraint_epoch() -> int:
    """Return a number that rises whenever a constrained variable is declared or loaded."""
    return _constraint_count


def on_first_constraint(listener: Callable[[], None]) -> None:
    """Call ``listener`` once, when the first constrained variable exists (now, if one does)."""
    _constraint_listeners.append(listener)
    if _constraint_count:
        _announce_constraint()


def _portable(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the fields with the process group, which cannot be pickled, as its name."""
    picklable(values[4], values[0])
    group = values[8]
    if group is None or isinstance(group, LostGroup):
        return values
    return (*values[:8], LostGroup(str(getattr(group, "group_name", "?"))), *values[9:])


def _restore_declaration(*values: Any) -> Declaration:
    if values[4] is not None:
        # A process that only loads a model has imported nothing else of us, and its optimizer
        # must find the constraint all the same.
        importlib.import_module("torchcreator._api")
    return Declaration(*values)


def _restore_spec(*values: Any) -> VariableSpec:
    return _restore_declaration(*values).spec


# torch.load reads with weights_only by default; a parameter outside any module is saved with its
# declaration.
torch.serialization.add_safe_globals(
    [_restore_declaration, _restore_spec, LostGroup, VariableAggregation, VariableSynchronization]
)
