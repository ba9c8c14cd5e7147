"""Creators that watch: what is made, how far it got, and that nothing is."""

from __future__ import annotations

import sys
from collections.abc import Callable

from torch import nn
from typing_extensions import Unpack

from torchcreator._build.context import Building, building
from torchcreator._build.progress import Bar, is_seen, maker
from torchcreator._errors import ForbiddenError, MissingExtraError, VariableTypeError, shown
from torchcreator._spec.types import Creator, NextCreator, VariableKwargs
from torchcreator.creators._ledger import Ledger
from torchcreator.creators._named import named


def record(ledger: Ledger) -> Creator:
    """Write down every variable that is made.

    As the innermost creator it is handed what the caller asked for, and its entries show what the
    creators further out changed.

    Args:
        ledger: Where to write it.

    Raises:
        VariableTypeError: ``ledger`` is no `Ledger`.

    Example:
        >>> import torchcreator as tc
        >>> ledger = tc.creators.Ledger()
        >>> with tc.creator_scope(tc.creators.record(ledger)):
        ...     gain = tc.variable([1.0, 2.0], name="gain")
        >>> print(ledger)
        gain: (2,), torch.float32, cpu
    """
    if not isinstance(ledger, Ledger):
        raise VariableTypeError(
            f"record got {shown(ledger)}.",
            "It writes down what is made, for somebody to look at.",
            "Write ledger = Ledger(), then record(ledger).",
        )

    @named("record(...)")
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        made = next_creator(**kwargs)
        ledger.add(made, kwargs)
        return made

    return creator


def forbid(reason: str = "") -> Creator:
    """Refuse to make any variable: for code that only uses those there are.

    Args:
        reason: Why none may be made here, for the error.

    Raises:
        ForbiddenError: From the scope, as soon as a variable is about to be made.
        VariableTypeError: ``reason`` is not a string.

    Example:
        >>> import torchcreator as tc
        >>> with tc.creator_scope(tc.creators.forbid("The evaluation makes no parameters.")):
        ...     try:
        ...         tc.variable(0.0, name="bias")
        ...     except RuntimeError as error:
        ...         print(error)
        Variable 'bias' was about to be made inside forbid().
        The evaluation makes no parameters.
        Make it before the scope is opened, or let it pass: where(forbid(), when=...).
    """
    if not isinstance(reason, str):
        raise VariableTypeError(
            f"forbid got {shown(reason)}.",
            "It is the reason that the error gives.",
            "Write forbid('The evaluation makes no parameters.'), say.",
        )

    @named("forbid()")
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        owner = kwargs.get("module")
        name = kwargs.get("name") or "Variable"
        raise ForbiddenError(
            f"Variable {name!r}{'' if owner is None else f' of {type(owner).__name__}'} was about "
            "to be made inside forbid().",
            reason or "This code may only use the variables that there are.",
            "Make it before the scope is opened, or let it pass: where(forbid(), when=...).",
        )

    return creator


def progress(title: str = "parameters") -> Creator:
    """Show a bar that moves with each variable; silent where standard error is no terminal.

    Under `build` it knows how many there are to come; in a plain scope it counts.

    Args:
        title: What stands before the bar.

    Raises:
        MissingExtraError: There is a terminal, and neither rich nor tqdm is installed.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.progress()):
        ...     layer = nn.Linear(2, 3)
    """
    bars: dict[Building, Bar] = {}
    count = _CountLine(title)
    make_bar = _bar_maker() if is_seen() else None

    @named("progress()")
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        made = next_creator(**kwargs)
        if make_bar is not None:
            this = building.get()
            if this is None:
                count.advance()
                return made
            if this not in bars:
                bars[this] = make_bar(title, sum(1 for _ in this.model.parameters()))
                this.cleanup.callback(lambda: bars.pop(this).close())
            bars[this].advance()
        return made

    return creator


def _bar_maker() -> Callable[[str, int], Bar]:
    draws = maker()
    if draws is None:
        raise MissingExtraError(
            "progress() found neither rich nor tqdm.",
            "One of them draws its bar.",
            "Install one: pip install rich",
        )
    return draws


class _CountLine:
    """A number that counts up in its place: nobody says when a plain scope is at its last one."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._count = 0

    def advance(self) -> None:
        self._count += 1
        sys.stderr.write(f"\r{self._title}: {self._count}")
