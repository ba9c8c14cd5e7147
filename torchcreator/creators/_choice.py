"""Which variables a ready-made creator is asked about, and what becomes of a choice of none."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import nn
from typing_extensions import TypedDict, Unpack

from torchcreator._build.context import building
from torchcreator._call_site import warn
from torchcreator._chain import endings
from torchcreator._errors import (
    VariableTypeError,
    VariableValueError,
    called,
    did_you_mean,
    shown,
)
from torchcreator._spec.types import Creator, NextCreator, VariableKwargs

Pattern: TypeAlias = str | re.Pattern[str]
Names: TypeAlias = Pattern | Sequence[Pattern] | None
Types: TypeAlias = type[nn.Module] | Sequence[type[nn.Module]] | None


class Conditions(TypedDict, total=False):
    """Which variables a creator is asked about; all that are given have to hold."""

    name: Names
    module: Types
    when: Callable[..., bool] | None


class Choice(Conditions, total=False):
    """The same, and whether a choice of no variable is an error, or nothing to speak of."""

    strict: bool | None


def ready(word: str, *arguments: str, choice: Mapping[str, Any]) -> Callable[[Any], Creator]:
    """Return a decorator that turns a function into a ready-made creator.

    Errors, scopes and ledgers call it by the call that made it, and it is asked about the
    variables that are chosen only.

    Args:
        word: The name of the ready-made creator.
        *arguments: What it was called with, as it is to be shown.
        choice: What chooses, as `Choice` has it.

    Raises:
        VariableTypeError: A condition is unknown, or of another type.
    """
    _check(word, choice)
    conditions = [_shown(key, choice[key]) for key in _RIGHT if choice.get(key) is not None]
    text = f"{word}({', '.join((*arguments, *conditions))})"

    def made(creator: Any) -> Creator:
        if any(choice.get(key) is not None for key in Conditions.__annotations__):
            creator = _Chosen(creator, text, choice).creator
        creator.__name__ = creator.__qualname__ = text
        named: Creator = creator
        return named

    return made


class _Chosen:
    """A creator, and the variables that it is asked about."""

    def __init__(self, creator: Creator, text: str, choice: Mapping[str, Any]) -> None:
        self.text = text
        self.patterns: tuple[Pattern, ...] = _several(choice.get("name"))
        self.types: tuple[type[nn.Module], ...] = _several(choice.get("module"))
        self.when: Callable[..., bool] | None = choice.get("when")
        self.strict: bool | None = choice.get("strict")
        # A general rule, "every embedding", may well meet none; a pattern was written for a name.
        watches = self.strict or (bool(self.patterns) and self.strict is None)

        def chosen(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
            seen = self._seen(kwargs) if watches else None
            if self._meant(kwargs, seen):
                return creator(next_creator, **kwargs)
            return next_creator(**kwargs)

        self.creator: Any = chosen

    def _meant(self, kwargs: VariableKwargs, seen: _Seen | None) -> bool:
        if self.patterns:
            names = _names(kwargs)
            found = {pattern for pattern in self.patterns if _matches(pattern, names)}
            if seen is not None:
                seen.unmatched -= found
            if not found:
                return False
        if self.types and not isinstance(kwargs.get("module"), self.types):
            return False
        if self.when is not None and not self.when(**kwargs):
            return False
        if seen is not None:
            seen.met = True
        return True

    def _seen(self, kwargs: VariableKwargs) -> _Seen | None:
        """Return what was seen in the scope that asks, with this variable counted."""
        scope = endings.scope_of(self.creator)
        if scope is None:
            return None
        of_scope = endings.by_scope.get(scope) or endings.by_scope.setdefault(scope, {})
        seen = of_scope.get(self)
        if seen is None:
            seen = of_scope[self] = _Seen(self)
        assert isinstance(seen, _Seen)
        seen.count += 1
        if seen.count <= _SHOWN:
            seen.names.append(_names(kwargs)[0])
        seen.full = seen.full or building.get() is not None
        return seen


_SHOWN = 3
"""So many names of variables are shown."""


class _Seen:
    """The variables that one choice has seen in one scope."""

    def __init__(self, choice: _Chosen) -> None:
        self.choice = choice
        self.unmatched = set(choice.patterns)
        self.met = False
        self.count = 0
        self.names: list[str] = []
        self.full = False

    def close(self, error: object) -> None:
        """Tell what has met nothing, unless the block did not come to its end."""
        if error is not None or (self.met and not self.unmatched):
            return
        parts = self._what(), self._why(), self._instead()
        if self.choice.strict:
            raise VariableValueError(*parts)
        warn(*parts)

    def _what(self) -> str:
        names = ", ".join(map(repr, self.names)) + (", …" if self.count > _SHOWN else "")
        unmatched = [p for p in self.choice.patterns if p in self.unmatched]
        of = "the one variable" if self.count == 1 else f"any of the {self.count} variables"
        if unmatched:
            words = ", ".join(shown(p) for p in unmatched)
            return f"{words} of {self.choice.text} did not match {of} made in its scope: {names}."
        return f"{self.choice.text} did not mean {of} made in its scope: {names}."

    def _why(self) -> str:
        why = "A creator that nothing is meant for does nothing."
        dotted = any("." in _text(pattern).removeprefix("*.") for pattern in self.unmatched)
        if dotted and not self.full:
            why += " In a plain scope a constructor knows the local names of its parameters only."
        return why

    def _instead(self) -> str:
        word = next(iter(self.unmatched), None)
        near = did_you_mean(_text(word), self.names) if word is not None else ""
        full = "" if self.full else "use build(), defer() or recreate(), which know full names; or "
        return f"Correct the conditions{near}; or {full}pass strict=False where that may be."


def _names(kwargs: VariableKwargs) -> tuple[str, ...]:
    tied: tuple[str, ...] = (kwargs.get("tags") or {}).get("names", ())
    return tied or (kwargs.get("name") or "Variable",)


def _text(pattern: Pattern) -> str:
    return pattern if isinstance(pattern, str) else pattern.pattern


def _matches(pattern: Pattern, names: tuple[str, ...]) -> bool:
    if isinstance(pattern, re.Pattern):
        return any(map(pattern.search, names))
    return any(
        fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(f".{name}", pattern)
        for name in names
    )


def _several(value: Any) -> tuple[Any, ...]:
    if isinstance(value, (tuple, list, set, frozenset)):
        return tuple(value)
    return () if value is None else (value,)


def _shown(key: str, value: Any) -> str:
    if key == "module":
        words = ", ".join(called(kind) for kind in _several(value))
        return f"module={words if isinstance(value, type) else f'({words})'}"
    return f"{key}={called(value) if key == 'when' else shown(value)}"


def _check(word: str, choice: Mapping[str, Any]) -> None:
    for key, value in choice.items():
        if key not in _RIGHT:
            raise VariableTypeError(
                f"{word} got an unexpected keyword {key!r}{did_you_mean(key, _RIGHT)}.",
                f"Which variables it is asked about is said by {', '.join(_RIGHT)}.",
                f"Write {word}(..., name='*.bias'), say.",
            )
        values = () if value is None else _several(value) if key in ("name", "module") else (value,)
        if value is not None and not (values and all(map(_RIGHT[key], values))):
            wrong = next((one for one in values if not _RIGHT[key](one)), value)
            raise VariableTypeError(
                f"{word} got {key}={shown(wrong)}.",
                "A name is a glob or a compiled pattern, a module a type, or several of these; "
                "when is a function, and strict True or False.",
                f"Write {word}(..., name='*.bias', module=nn.Linear), say.",
            )


_RIGHT: dict[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, (str, re.Pattern)),
    "module": lambda value: isinstance(value, type),
    "when": callable,
    "strict": lambda value: isinstance(value, bool),
}
