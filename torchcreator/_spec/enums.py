"""The two words a variable's behaviour on many ranks is declared with."""

from __future__ import annotations

from enum import Enum

from typing_extensions import Self

from torchcreator._errors import UNNAMED, VariableValueError, did_you_mean, shown


class _Mode(str, Enum):
    """An enum whose members are their words: ``mode == "sum"``; also read in another case."""

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, form: str) -> str:  # which versions of Python do in different ways
        return format(str(self.value), form)

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if type(value) is int and value in range(len(cls)):  # TensorFlow's numbers
            return list(cls)[value]
        return cls._called(value)

    @classmethod
    def _called(cls, value: object) -> Self | None:
        """Return the member of a word in any case, or None; another enum's member is no word."""
        word = value.lower() if isinstance(value, str) and not isinstance(value, Enum) else None
        return next((member for member in cls if member.value == word), None)

    @classmethod
    def of(cls, value: object, variable: str | None = None, *, asked_by: str = "") -> Self:
        """Return the member that ``value`` names.

        Args:
            value: A member, its word as a string in any case, or None for the first member.
            variable: The variable's name, for the error message.
            asked_by: The function that asks, where no variable does, for the error message.

        Raises:
            VariableValueError: ``value`` names no member.
        """
        if value.__class__ is cls:  # nearly always, and cheaper than isinstance
            return value
        member = next(iter(cls)) if value is None else cls._called(value)
        if member is not None:
            return member
        word = cls.__name__.removeprefix("Variable").lower()
        words = [mode.value for mode in cls]
        meant = f"{shown(value)}{did_you_mean(value, words)}"
        unnamed = variable is None or variable is UNNAMED
        name = "a variable without a name" if unnamed else f"variable: {variable}"
        what = f"{asked_by} got the {word} {meant}." if asked_by else ""
        raise VariableValueError(
            what or f"Invalid variable {word} mode: {meant} for {name}",
            f"The {word} says when or how the values of several ranks become one.",
            f"Use one of {', '.join(map(repr, words))}, or a {cls.__name__}.",
        )


class VariableSynchronization(_Mode):
    """When the values of a variable on several ranks are brought together.

    A member equals its word, and is made of it.

    Attributes:
        AUTO: The library chooses; today that is ``ON_WRITE``.
        NONE: One value per rank, never brought together.
        ON_WRITE: One value, equal on all ranks; writes are aggregated.
        ON_READ: One value per rank; reads are aggregated.

    Example:
        >>> import torchcreator as tc
        >>> tc.VariableSynchronization("on_read")
        <VariableSynchronization.ON_READ: 'on_read'>
        >>> tc.VariableSynchronization.ON_READ == "on_read"
        True
    """

    AUTO = "auto"
    NONE = "none"
    ON_WRITE = "on_write"
    ON_READ = "on_read"


class VariableAggregation(_Mode):
    """How one value is made of the values of several ranks.

    A member equals its word, and is made of it.

    Attributes:
        NONE: Nothing was asked for: gradients are averaged as DDP does, writes are refused.
        SUM: The sum over the ranks.
        MEAN: The mean over the ranks.
        ONLY_FIRST_REPLICA: The value of the group's first rank.

    Example:
        >>> import torchcreator as tc
        >>> tc.VariableAggregation("mean")
        <VariableAggregation.MEAN: 'mean'>
        >>> tc.spec_of(tc.variable(1.0, aggregation="mean")).aggregation == "mean"
        True
    """

    NONE = "none"
    SUM = "sum"
    MEAN = "mean"
    ONLY_FIRST_REPLICA = "only_first_replica"
