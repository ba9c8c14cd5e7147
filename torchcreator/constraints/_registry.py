"""Constraints by name, as plain data, and as something to pickle."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, cast

import torch

from torchcreator._errors import (
    TorchCreatorError,
    VariableTypeError,
    VariableValueError,
    did_you_mean,
    shown,
)
from torchcreator.constraints._base import Composed, Constraint, Projection
from torchcreator.constraints._elements import Clip, Masked, NonNeg, Simplex, Sparse
from torchcreator.constraints._matrices import (
    Orthogonal,
    PositiveDefinite,
    SpectralNorm,
    Symmetric,
)
from torchcreator.constraints._norms import MaxNorm, MinMaxNorm, UnitNorm


def name_of(kind: type[Projection]) -> str:
    """Return the name of a ready-made constraint, ``max_norm`` for `MaxNorm`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


KINDS: dict[str, type[Projection]] = {
    name_of(kind): kind
    for kind in (
        *(NonNeg, Clip),
        *(MaxNorm, UnitNorm, MinMaxNorm),
        *(Orthogonal, SpectralNorm, Symmetric, PositiveDefinite),
        *(Simplex, Sparse, Masked),
    )
}

torch.serialization.add_safe_globals([*KINDS.values(), Composed])


def get(identifier: object, variable_name: str = "Variable") -> Constraint | None:
    """Return the constraint that ``identifier`` stands for.

    Args:
        identifier: None, a constraint, any function of a tensor, a name such as ``"max_norm"`` or
            ``"MaxNorm"``, or a config that `to_config` made.
        variable_name: The variable it is for, named in errors.

    Raises:
        VariableTypeError: It is none of these.
        VariableValueError: No ready-made constraint has this name, or it needs arguments.

    Example:
        >>> import torchcreator as tc
        >>> tc.constraints.get("max_norm")
        MaxNorm(max_value=2.0, dim=None)
        >>> try:
        ...     tc.constraints.get("max_nrom", "head.weight")
        ... except ValueError as error:
        ...     print(error.args[0])
        Unknown constraint 'max_nrom' for variable: head.weight (did you mean 'max_norm'?)
    """
    if identifier is None:
        return None
    if isinstance(identifier, str):
        return _by_name(identifier, variable_name)
    if isinstance(identifier, Mapping):
        return from_config(identifier, variable_name)
    if isinstance(identifier, type) or not callable(identifier):
        raise VariableTypeError(
            f"Invalid constraint {shown(identifier)} for variable: {variable_name}",
            "A constraint takes the parameter's value and returns the one it is to have.",
            f"Pass {identifier.__name__}(), with brackets."
            if isinstance(identifier, type) and issubclass(identifier, Projection)
            else "Pass one of torchcreator.constraints, its name, or a function f(w) -> w.",
        )
    return identifier


def to_config(constraint: Constraint) -> dict[str, Any]:
    """Return a constraint as plain data, fit for JSON.

    Args:
        constraint: A ready-made constraint; functions have no config.

    Raises:
        VariableTypeError: It is a function, or not one of the ready-made ones.

    Example:
        >>> import torchcreator as tc
        >>> config = tc.constraints.to_config(tc.constraints.MaxNorm(3.0))
        >>> config
        {'name': 'max_norm', 'max_value': 3.0, 'dim': None}
        >>> tc.constraints.from_config(config)
        MaxNorm(max_value=3.0, dim=None)
    """
    if isinstance(constraint, Composed):
        return {"name": "composed", "parts": [to_config(part) for part in constraint.parts]}
    if not isinstance(constraint, Projection) or type(constraint) not in KINDS.values():
        raise VariableTypeError(
            f"{shown(constraint)} has no config.",
            "A config names a ready-made constraint and its numbers.",
            "Compose ready-made constraints with `&`, or pickle the function by its module.",
        )
    values = {name: _plain(getattr(constraint, name)) for name in _arguments(type(constraint))}
    return {"name": name_of(type(constraint)), **values}


def from_config(config: Mapping[str, Any], variable_name: str = "Variable") -> Constraint:
    """Return the constraint that `to_config` described.

    Args:
        config: A mapping with a ``name`` and the constraint's arguments.
        variable_name: The variable it is for, named in errors.

    Raises:
        VariableValueError: The name is unknown or the arguments do not fit it.

    Example:
        >>> import torchcreator as tc
        >>> tc.constraints.from_config({"name": "clip", "min_value": 0.0, "max_value": 1.0})
        Clip(min_value=0.0, max_value=1.0)
    """
    arguments = dict(config)
    name = arguments.pop("name", None)
    if name == "composed":
        parts = tuple(from_config(p, variable_name) for p in arguments.get("parts", ()))
        if not parts:
            raise VariableValueError(
                f"The constraint of variable {variable_name!r} is composed of no parts.",
                f"The config says {shown(config)}.",
                "Write {'name': 'composed', 'parts': [{'name': 'non_neg'}, ...]}, as to_config() "
                "does.",
            )
        return Composed(parts)
    kind = _kind(name, variable_name)
    known = _arguments(kind)
    for argument in arguments:
        if argument not in known:
            raise VariableValueError(
                f"Unknown argument {shown(argument)} of constraint {shown(name)} for variable: "
                f"{variable_name}{did_you_mean(argument, known)}",
                f"{kind.__name__} takes {', '.join(known) or 'no arguments'}.",
                "Leave it out, or write its name as above.",
            )
    _require_arguments(kind, arguments, variable_name)
    try:
        return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in arguments.items()})
    except TorchCreatorError as error:
        what, *rest = error.args
        what = f"{what}\nIt was to constrain variable {variable_name!r}."
        raise type(error)(what, *rest) from None


def picklable(constraint: Constraint | None, name: str) -> Constraint | None:
    """Return a constraint, if it can be pickled.

    Args:
        constraint: What is about to be pickled.
        name: The variable's name, for the error.

    Raises:
        VariableTypeError: It is a lambda, say, which pickle cannot find by name.

    Example:
        >>> from torchcreator import constraints
        >>> constraints.picklable(constraints.NonNeg(), "w")
        NonNeg()
    """
    if constraint is None or type(constraint) in KINDS.values():
        return constraint
    try:
        pickle.dumps(constraint)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise VariableTypeError(
            f"The constraint {shown(constraint)} of variable {name!r} cannot be pickled.",
            f"Pickle stores a function by its name: {error}.",
            "Define the function at the top of a module, or use one of torchcreator.constraints.",
        ) from error
    return constraint


def _by_name(name: str, variable_name: str) -> Projection:
    kind = _kind(name, variable_name)
    _require_arguments(kind, (), variable_name)
    return kind()


def _require_arguments(kind: type[Projection], given: Iterable[str], variable_name: str) -> None:
    """Raise if a constraint means nothing without arguments that are not given."""
    given = list(given)
    needed = [
        name
        for name, field in _arguments(kind).items()
        if field.default is MISSING and name not in given
    ]
    if needed or (kind is Clip and not given):
        raise VariableValueError(
            f"The constraint {name_of(kind)!r} for variable {variable_name!r} needs arguments.",
            "Its name alone does not say what is allowed.",
            f"Pass torchcreator.constraints.{kind.__name__}({', '.join(needed) or '-1.0, 1.0'}).",
        )


def _kind(name: object, variable_name: str) -> type[Projection]:
    """Return the class of a name: ``max_norm``, ``MaxNorm`` or ``maxnorm``."""
    text = str(name).lower()
    for known, kind in KINDS.items():
        if text.replace("_", "") == known.replace("_", ""):
            return kind
    raise VariableValueError(
        f"Unknown constraint {shown(name)} for variable: {variable_name}"
        f"{did_you_mean(text, KINDS)}",
        f"The ready-made ones are {', '.join(KINDS)}.",
        "Use one of these names, an instance, or a function f(w) -> w.",
    )


def _arguments(kind: type[Projection]) -> dict[str, Field[Any]]:
    return {field.name: field for field in fields(cast("Any", kind))}


def _plain(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value
