"""The errors of this library, and the form all of them share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TorchCreatorError(Exception):
    """Base of every error raised on purpose by this library.

    An error has three parts: *what* was wrong with what was passed (its value and the variable's
    full name), *why* that cannot work, and what to write *instead*. Each subclass also derives
    from the built-in it specialises, so ``except ValueError`` keeps working::

        TorchCreatorError
        ├── VariableTypeError (TypeError)        an argument of the wrong type
        ├── VariableValueError (ValueError)      an argument of the right type and a wrong value
        ├── CreatorResultError (TypeError)       a creator returned something unusable
        ├── CreatorRecursionError (RecursionError)   a creator called itself for ever
        ├── ScopeError (RuntimeError)            a scope was entered or closed out of turn
        ├── ConstraintError (RuntimeError)       a projection gave no usable result
        ├── BuildError (RuntimeError)            a construction could not be recorded or replayed
        ├── CheckpointError (RuntimeError)       a checkpoint is damaged, or does not fit the model
        ├── ForbiddenError (RuntimeError)        a variable was made where none may be
        ├── DistributedError (RuntimeError)      ranks disagree, or a host cannot do what was asked
        └── MissingExtraError (ImportError)      an optional dependency is not installed

    What a creator raises, or an initial value that is a function, passes as it is. After one of
    these nothing is half done: no name is given away, no scope left open, no declaration kept.

    Args:
        what: What was wrong, with the value and the variable's name.
        why: Why it cannot work.
        instead: What to write instead.

    Example:
        >>> import torchcreator as tc
        >>> try:
        ...     tc.variable([1.0, 2.0], aggregation="average", name="gain")
        ... except tc.TorchCreatorError as error:
        ...     print(error)
        Invalid variable aggregation mode: 'average' for variable: gain
        The aggregation says when or how the values of several ranks become one.
        Use one of 'none', 'sum', 'mean', 'only_first_replica', or a VariableAggregation.
    """

    def __init__(self, what: str, why: str = "", instead: str = "") -> None:
        super().__init__(what, why, instead)

    def __str__(self) -> str:
        return "\n".join(part for part in self.args if part)


class VariableTypeError(TorchCreatorError, TypeError):
    """An argument of the wrong type."""


class VariableValueError(TorchCreatorError, ValueError):
    """An argument of the right type and a wrong value."""


class CreatorResultError(TorchCreatorError, TypeError):
    """A creator returned something unusable."""


class CreatorRecursionError(TorchCreatorError, RecursionError):
    """A creator called itself for ever."""


class ScopeError(TorchCreatorError, RuntimeError):
    """A scope was entered or closed out of turn."""


class ConstraintError(TorchCreatorError, RuntimeError):
    """A projection gave no usable result."""


class BuildError(TorchCreatorError, RuntimeError):
    """A construction could not be recorded or replayed."""


class CheckpointError(TorchCreatorError, RuntimeError):
    """A checkpoint is damaged, or does not fit the model."""


class ForbiddenError(TorchCreatorError, RuntimeError):
    """A variable was made where none may be."""


class DistributedError(TorchCreatorError, RuntimeError):
    """Ranks disagree, or a host cannot do what a variable asks for."""


class MissingExtraError(TorchCreatorError, ImportError):
    """An optional dependency is not installed."""


def shown(value: object, limit: int = 200) -> str:
    """Return the ``repr`` of a value as a message shows it: never an error, and not for ever."""
    try:
        text = repr(value)
    except Exception:  # whatever is wrong with it, the message is about something else
        text = object.__repr__(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def called(function: object) -> str:
    """Return what a message calls a function: its name, or what it looks like."""
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else shown(function)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, known, n=1) if isinstance(word, str) else []
    return f" (did you mean {near[0]!r}?)" if near else ""
