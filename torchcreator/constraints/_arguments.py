"""Refuse what a constraint cannot be made of: its fields are plain numbers and flags."""

from __future__ import annotations

from numbers import Real

from torchcreator._errors import VariableTypeError, shown


def check_numbers(constraint: object, **arguments: object) -> None:
    """Raise if an argument of a constraint is not one real number: they are compared as values."""
    for name, value in arguments.items():
        plain = isinstance(value, (int, float)) or (isinstance(value, Real) and is_numpy(value))
        if isinstance(value, bool) or not plain or (isinstance(value, int) and abs(value) >> 63):
            raise VariableTypeError(
                f"{type(constraint).__name__}({name}={shown(value)}) is not a number.",
                "A constraint is a value, made of plain numbers that fit into a tensor.",
                f"Write {type(constraint).__name__}({name}=1.0), say.",
            )


def is_numpy(value: object) -> bool:
    """Return whether a number is one of NumPy's, which this library does not import."""
    return type(value).__module__ == "numpy"


def check_flags(constraint: object, **arguments: object) -> None:
    """Raise if an argument of a constraint is neither True nor False."""
    for name, value in arguments.items():
        if not isinstance(value, bool):
            raise VariableTypeError(
                f"{type(constraint).__name__}({name}={shown(value)}) is neither True nor False.",
                "It is a choice of two.",
                f"Write {type(constraint).__name__}({name}=True), or leave it out.",
            )
