"""Creators that watch: what is made, how far it got, and that nothing is."""

from __future__ import annotations

from typing import Any

from torch import nn
from typing_extensions import Unpack

from torchcreator._build.progress import current_bar, is_seen, maker
from torchcreator._errors import (
    ForbiddenError,
    MissingExtraError,
    VariableTypeError,
    labelled,
    shown,
)
from torchcreator._spec.types import Creator, NextCreator, VariableKwargs
from torchcreator.creators._choice import Choice, ready
from torchcreator.creators._ledger import Ledger
from torchcreator.creators._made import is_assigned


def record(ledger: Ledger, **chosen: Unpack[Choice]) -> Creator:
    """Write down every variable that is made.

    As the innermost creator it is handed what the caller asked for, and its entries show what the
    creators further out changed.

    Args:
        ledger: Where to write it.
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, ``strict=``, as in `where`.

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

    @ready("record", "...", choice=chosen)
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        made = next_creator(**kwargs)
        ledger.add(made, kwargs)
        return made

    return creator


def forbid(*, reason: str = "", **chosen: Unpack[Choice]) -> Creator:
    """Refuse to make any variable: for code that only uses those there are.

    Args:
        reason: Why none may be made here, for the error.
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, ``strict=``, as in `where`.

    Raises:
        ForbiddenError: From the scope, as soon as a variable is about to be made.
        VariableTypeError: ``reason`` is not a string.

    Example:
        >>> import torchcreator as tc
        >>> with tc.creator_scope(tc.creators.forbid(reason="Evaluation makes no parameters.")):
        ...     try:
        ...         tc.variable(0.0, name="bias")
        ...     except RuntimeError as error:
        ...         print(error)
        Variable 'bias' was about to be made inside forbid().
        Evaluation makes no parameters.
        Make it before the scope is opened, or let it pass: forbid(when=...).
    """
    if not isinstance(reason, str):
        raise VariableTypeError(
            f"forbid got {shown(reason)}.",
            "It is the reason that the error gives.",
            "Write forbid(reason='Evaluation makes no parameters.'), say.",
        )

    @ready("forbid", choice=chosen)
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        if is_assigned():  # nothing is made
            return next_creator(**kwargs)
        owner = kwargs.get("module")
        name = labelled(kwargs.get("name"))
        raise ForbiddenError(
            f"Variable {name!r}{'' if owner is None else f' of {type(owner).__name__}'} was about "
            "to be made inside forbid().",
            reason or "This code may only use the variables that there are.",
            "Make it before the scope is opened, or let it pass: forbid(when=...).",
        )

    return creator


def progress(*, title: str = "parameters", **chosen: Unpack[Choice]) -> Creator:
    """Show a bar that moves with each variable; silent where standard error is no terminal.

    Under `build` it is the build's own bar, shown at once; in a plain scope it counts.

    Args:
        title: What stands before the bar.
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, ``strict=``, as in `where`.

    Raises:
        MissingExtraError: There is a terminal, and tqdm, which draws the bar, is not installed.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.progress()):
        ...     layer = nn.Linear(2, 3)
    """
    tqdm = _tqdm() if is_seen() else None
    counts: list[Any] = []

    @ready("progress", choice=chosen)
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        made = next_creator(**kwargs)
        if tqdm is None:
            return made
        shown = current_bar.get()
        if shown is not None:  # the build moves it, and would show it later, if at all
            shown.delay = 0
            shown.set_description(title, refresh=False)
            return made
        if not counts:  # nobody says when a plain scope is at its last one: each is shown at once
            counts.append(tqdm(desc=title, bar_format="{desc}: {n_fmt}", mininterval=0))
        counts[0].update()
        return made

    return creator


def _tqdm() -> Any:
    tqdm = maker()
    if tqdm is None:
        raise MissingExtraError(
            "progress() found no tqdm.",
            "It draws the bar.",
            "Install it: pip install tqdm",
        )
    return tqdm
