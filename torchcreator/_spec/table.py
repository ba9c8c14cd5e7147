"""Where a variable's declaration is kept, and how it is found again.

A parameter in a module has its declaration in a table in the module's ``__dict__``, by local
name, because attributes of a parameter are lost in deepcopy, ``to_empty``, assign-loading and
FSDP2. A parameter outside any module carries it itself.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn

from torchcreator._errors import VariableTypeError, shown
from torchcreator._spec.spec import VariableSpec
from torchcreator._torch.dtensor import is_sharded
from torchcreator._torch.hosts import all_sharded_parameters

OWN = "_torchcreator_spec"
"""The attribute of a parameter that carries its own declaration."""
TABLE = "_torchcreator_specs"
"""The key of a module's ``__dict__`` that holds its table."""


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
        declared: dict[str, VariableSpec],
    ) -> None:
        self.parameters = parameters
        self.modules = modules
        self.declared = declared
        _live.add(weakref.ref(self, _live.discard))

    def held(self) -> Iterator[tuple[str, torch.Tensor, VariableSpec]]:
        """Yield the name, the parameter and the declaration of each one that exists."""
        for name, declaration in list(self.declared.items()):
            parameter = self.parameters.get(name)
            if parameter is not None:
                yield name, parameter, declaration
            else:
                yield from ((name, *part) for part in self._parts(name, declaration))

    def _parts(self, name: str, declaration: VariableSpec) -> Iterator[tuple[Any, VariableSpec]]:
        """Yield what `parametrize`, `weight_norm` and `spectral_norm` turned ``name`` into."""
        parametrizations: Any = self.modules.get("parametrizations")
        if parametrizations is not None and name in parametrizations:
            pieces: Any = parametrizations[name]
            for local, part in pieces._parameters.items():
                whole = local == "original"
                if declaration_in(pieces, local) is None:  # by itself, since it was split
                    yield part, declaration if whole else declaration.inherited()
        elif (original := self.parameters.get(f"{name}_orig")) is not None:
            if f"{name}_orig" not in self.declared:
                yield original, declaration
        else:
            for local in (f"{name}_g", f"{name}_v"):
                if (part := self.parameters.get(local)) is not None and local not in self.declared:
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


Place: TypeAlias = "tuple[weakref.ref[SpecTable], str]"

_index: dict[int, Place] = {}
"""Where each declared parameter was at the last look, by its id; verified at each use."""
_room = 64
"""How many places it may have before those of dead modules are taken out."""


def attach(parameter: torch.Tensor, declaration: VariableSpec) -> None:
    """Let a parameter outside any module carry its declaration."""
    attributes = parameter.__dict__
    attributes[OWN] = declaration
    # Parameter.__deepcopy__ drops attributes; without it copy goes through __reduce_ex__, which
    # keeps attributes and ties.
    attributes["__deepcopy__"] = None


def table_of(module: nn.Module) -> SpecTable | None:
    """Return a module's table, made if it has none.

    A scripted module has none: its parameters live in C++, where no table can see them.
    """
    attributes = module.__dict__
    table: SpecTable | None = attributes.get(TABLE)
    if table is None and not isinstance(module, torch.jit.ScriptModule):
        table = attributes[TABLE] = SpecTable(module._parameters, module._modules, {})
    return table


def declare(module: nn.Module, name: str, declaration: VariableSpec) -> None:
    """Put a declaration into a module's table under a local name."""
    table: SpecTable | None = module.__dict__.get(TABLE) or table_of(module)
    if table is not None:
        table.declared[name] = declaration


def undeclare(module: nn.Module, name: str) -> None:
    """Take the declaration of a local name, if there is one, out of a module's table."""
    table: SpecTable | None = module.__dict__.get(TABLE)
    if table is not None:
        table.declared.pop(name, None)


def declaration_in(module: nn.Module, name: str) -> VariableSpec | None:
    """Return what a module's table has under a local name, or None."""
    table: SpecTable | None = module.__dict__.get(TABLE)
    return None if table is None else table.declared.get(name)


def declaration_of(parameter: torch.Tensor) -> VariableSpec | None:
    """Return what a parameter was declared as, or None."""
    own: VariableSpec | None = parameter.__dict__.get(OWN)
    if own is not None:
        return own
    reference, name = _index.get(id(parameter), (None, ""))
    table = None if reference is None else reference()
    if table is not None and table.parameters.get(name) is parameter:
        return table.declared.get(name)
    for table in tables_with(parameter):
        for name, held, declaration in table.held():
            if held is parameter:
                _remember(parameter, table, name)
                return declaration
    # FSDP2 takes its shards out of the module: they are found by way of the whole.
    return specs_of([parameter])[0] if is_sharded(parameter) else None


def live_tables() -> list[SpecTable]:
    """Return the tables of all live modules."""
    # tuple(set) is one step for other threads; iterating the set itself is not.
    return [table for reference in tuple(_live) if (table := reference()) is not None]


def tables_with(parameter: torch.Tensor) -> Iterator[SpecTable]:
    """Yield the tables of the modules that hold a parameter, declared or not."""
    for table in live_tables():
        for held in [*table.parameters.values()]:  # other threads may add some
            if held is parameter:
                yield table
                break
        else:
            if "parametrizations" in table.modules and any(
                held is parameter for _, held, _ in table.held()
            ):
                yield table


def _remember(parameter: torch.Tensor, table: SpecTable, name: str) -> None:
    """Keep where a parameter is declared, and let go of tables that are gone, now and then."""
    if len(_index) >= _room:
        _replace({k: place for k, place in _index.items() if place[0]() is not None})
    _index[id(parameter)] = (weakref.ref(table), name)


def _replace(index: dict[int, Place]) -> None:
    """Go on with what is known of live tables, and with room for as much again."""
    global _index, _room
    _index, _room = index, 2 * len(index) + 64


def specs_of(parameters: Sequence[torch.Tensor]) -> list[VariableSpec | None]:
    """Return the spec of each parameter, or None, in one pass over the live tables."""
    found: dict[int, VariableSpec] = {}
    index: dict[int, Place] = {}
    for table in live_tables():
        reference = weakref.ref(table)
        for name, held, declaration in table.held():
            found[id(held)] = declaration
            index[id(held)] = (reference, name)
    _replace(index)
    if any(is_sharded(p) and id(p) not in found and OWN not in p.__dict__ for p in parameters):
        # FSDP2 takes its shards out of the module while that is gathered, which its root stays
        # after an evaluation forward.
        for p in all_sharded_parameters():
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

    Raises:
        VariableTypeError: It is no tensor.

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
    if not isinstance(parameter, torch.Tensor):
        raise VariableTypeError(
            f"spec_of() got {shown(parameter)}, a {type(parameter).__name__}.",
            "A spec is kept for a parameter and found through it.",
            "Pass the parameter that variable() returned, or one of a module.",
        )
    return declaration_of(parameter)


def checked_model(model: object, caller: str) -> nn.Module:
    """Return ``model`` if it is a module, for what is called with a whole one."""
    if isinstance(model, nn.Module):
        return model
    raise VariableTypeError(
        f"{caller} got {shown(model)}, a {type(model).__name__}.",
        "It goes through the parameters of a whole model.",
        "Pass a torch.nn.Module.",
    )


def named_specs(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, VariableSpec]]:
    """Yield ``(full name, parameter, spec)`` of every parameter that has a spec.

    The order is that of ``model.named_parameters()``; a tied parameter comes once.

    Args:
        model: Any module.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.freeze()):
        ...     model = nn.Sequential(nn.Linear(2, 3))
        >>> [(name, spec.trainable) for name, _, spec in tc.named_specs(model)]
        [('0.weight', False), ('0.bias', False)]
    """
    named = list(checked_model(model, "named_specs()").named_parameters())
    for (name, parameter), spec in zip(named, specs_of([p for _, p in named]), strict=True):
        if spec is not None:
            yield name, parameter, spec
