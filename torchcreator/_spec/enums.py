"""The two words a variable's behaviour on many ranks is declared with."""

from __future__ import annotations

from enum import Enum

from typing_extensions import Self

from torchcreator._errors import VariableValueError, shown


class _Mode(Enum):
    """An enum that also reads None, as its member 0, and its members' names in any case."""

    @classmethod
    def of(cls, value: object, variable: str | None = None) -> Self:
        """Return the member that ``value`` names.

        Args:
            value: A member, its name as a string in any case, or None for the default.
            variable: The variable's name, for the error message.

        Raises:
            VariableValueError: ``value`` names no member.
        """
        if value.__class__ is cls:  # nearly always, and cheaper than isinstance
            return value
        if value is None:
            return cls(0)
        if isinstance(value, str) and value.upper() in cls.__members__:
            return cls[value.upper()]
        word = cls.__name__.removeprefix("Variable").lower()
        valid = ", ".join(repr(name.lower()) for name in cls.__members__)
        raise VariableValueError(
            f"Invalid variable {word} mode: {shown(value)} for variable: {variable or 'Variable'}",
            f"The {word} says when or how the values of several ranks become one.",
            f"Use one of {valid}, or a {cls.__name__}.",
        )


class VariableSynchronization(_Mode):
    """When the values of a variable on several ranks are brought together.

    Attributes:
        AUTO: The library chooses; today that is ``ON_WRITE``.
        NONE: One value per rank, never brought together.
        ON_WRITE: One value, equal on all ranks; writes are aggregated.
        ON_READ: One value per rank; reads are aggregated.

    Example:
        >>> import torchcreator as tc
        >>> tc.VariableSynchronization.of("on_read")
        <VariableSynchronization.ON_READ: 3>
    """

    AUTO = 0
    NONE = 1
    ON_WRITE = 2
    ON_READ = 3


class VariableAggregation(_Mode):
    """How one value is made of the values of several ranks.

    Attributes:
        NONE: Nothing was asked for: gradients are averaged as DDP does, writes are refused.
        SUM: The sum over the ranks.
        MEAN: The mean over the ranks.
        ONLY_FIRST_REPLICA: The value of the group's first rank.

    Example:
        >>> import torchcreator as tc
        >>> tc.VariableAggregation.of("mean")
        <VariableAggregation.MEAN: 2>
    """

    NONE = 0
    SUM = 1
    MEAN = 2
    ONLY_FIRST_REPLICA = 3
