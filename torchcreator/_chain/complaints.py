"""What goes wrong with scopes and creators, in words."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import Any, NoReturn

from torchcreator._call_site import warn
from torchcreator._errors import (
    CreatorRecursionError,
    CreatorResultError,
    ScopeError,
    TorchCreatorError,
    VariableTypeError,
    called,
    labelled,
    shown,
)
from torchcreator._spec.types import Creator

_ENOUGH = 8
"""Nested calls of the chain in one traceback that nobody makes on purpose."""


def explained(
    error: RecursionError, entry: Callable[..., Any], chain: Callable[..., Any], name: str | None
) -> RecursionError:
    """Return the error to raise for ``error``: itself, unless the chain called itself for ever.

    Args:
        error: What Python raised.
        entry: The function through which the chain is entered; it calls the first creator.
        chain: A link of the chain. It calls a creator, and as in ``entry``, its variable
            ``creator`` holds it.
        name: The variable's name.
    """
    if isinstance(error, CreatorRecursionError):
        return error
    link: CodeType = chain.__code__
    creators = _creators(error.__traceback__, entry.__code__, link)
    if len(creators) < _ENOUGH:
        return error
    return CreatorRecursionError(
        f"Creator {called(creators[-1])} made variables for ever, the last one {labelled(name)!r}.",
        "variable() and a module's constructor inside a creator run the whole chain again, "
        "this creator included.",
        "End the creator with: return next_creator(**kwargs)",
    )


def _creators(traceback: TracebackType | None, entry: CodeType, link: CodeType) -> list[Any]:
    """Return the creator that was running each time that ``entry`` was called inside one."""
    running: Any = None
    found = []
    before: FrameType | None = None
    while traceback is not None:
        frame = traceback.tb_frame
        if frame is not before:  # a frame that raises anew comes twice
            if frame.f_code is entry and running is not None:
                found.append(running)
            if frame.f_code is entry or frame.f_code is link:
                running = frame.f_locals.get("creator", running)
        before, traceback = frame, traceback.tb_next
    return found


def explain(
    error: RecursionError | TypeError,
    entry: Callable[..., Any],
    chain: Callable[..., Any],
    name: str | None,
) -> NoReturn:
    """Raise what ``error`` means, or ``error`` itself where a creator's own code raised it.

    Args:
        error: What Python raised.
        entry: The function through which the chain is entered; it calls the first creator.
        chain: A link of the chain. As in ``entry``, its variable ``creator`` holds what it calls.
        name: The variable's name.
    """
    told: Exception | None
    if isinstance(error, RecursionError):
        told = explained(error, entry, chain, name)
    else:
        told = called_wrongly(error, entry, chain)
    if told is None:
        raise error
    raise told from None


_OWN_CALLS = ("default_creator() ", "adopt() ", "_next.<locals>.next_creator() ")
"""How Python calls a ``next_creator`` that was called in a wrong way."""


def called_wrongly(
    error: TypeError, entry: Callable[..., Any], chain: Callable[..., Any]
) -> VariableTypeError | None:
    """Return the error for a creator, or a ``next_creator``, that cannot be called so; else None.

    Args:
        error: What Python raised.
        entry: The function through which the chain is entered; it calls the first creator.
        chain: A link of the chain. As in ``entry``, its variable ``creator`` holds what it calls.
    """
    if isinstance(error, TorchCreatorError):
        return None
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    frame = None if traceback is None else traceback.tb_frame
    if frame is not None and frame.f_code in (entry.__code__, chain.__code__):
        creator = frame.f_locals.get("creator")
        name = called(creator)
        return VariableTypeError(
            f"Creator {name} cannot be called as creator(next_creator, **kwargs): {error}.",
            "That is how a scope asks it for each variable.",
            f"Write def {name}(next_creator, **kwargs): ...; or, if it returns a creator, open "
            f"the scope with what it returns: creator_scope({name}(...)).",
        )
    if str(error).startswith(_OWN_CALLS) and "positional argument" in str(error):
        return VariableTypeError(
            f"A creator passed something else than keywords on: {error}.",
            "The rest of the chain takes the keywords of a variable, each by its name.",
            "Write next_creator(**kwargs).",
        )
    return None


def check_scope(scope: Any) -> None:
    """Refuse what no scope can be made of."""
    creators, modules = scope.creators, scope.modules
    wrong = [shown(creator) for creator in creators if not callable(creator)]
    if creators and not wrong and isinstance(modules, bool):
        return
    scope.opened = False  # it is told by the error, and not once more when it is collected
    if wrong or not creators:
        raise VariableTypeError(
            f"creator_scope got {wrong[0] if wrong else 'no creator'}.",
            "It is called as creator(next_creator, **kwargs) for each variable.",
            "Pass a function, def creator(next_creator, **kwargs): "
            "return next_creator(**kwargs), say.",
        )
    raise VariableTypeError(
        f"creator_scope got modules={shown(modules)}.",
        "The parameters of stock modules either pass the creator or do not.",
        "Pass True or False.",
    )


def already_open(scope: object) -> ScopeError:
    """Return the error for a scope that is entered twice."""
    return ScopeError(
        f"{scope!r} is already open.",
        "One scope object stands for one place in the chain.",
        "Make a new one: creator_scope(creator).",
    )


def warn_never_entered(scope: object) -> None:
    """Say that a scope was made for nothing."""
    warnings.warn(
        f"{scope!r} was never entered: no variable passed it. Write `with creator_scope(...):`.",
        RuntimeWarning,
        stacklevel=3,
        source=scope,
    )


def warn_uninitialised(variable: str) -> None:
    """Say that a creator returned another parameter than the one that its module initialises.

    Args:
        variable: The parameter, as ``Linear.weight``.
    """
    warn(
        f"A creator returned a parameter of its own for {variable}, after next_creator(**kwargs) "
        "had made one.",
        "In a plain scope that one has no value yet: its module initialises it later. What is "
        "computed from it is whatever was in memory, and what the module writes is dropped.",
        "Set kwargs['initial_value'] instead; or construct the model with build(), where "
        "kwargs['initial_value'] gives the true value.",
    )


def returned_none(creator: Creator, name: Any) -> CreatorResultError:
    """Return the error for a creator that forgot to return what it made."""
    return CreatorResultError(
        f"Creator {called(creator)} returned None for variable {labelled(name)!r}.",
        "Whatever a creator returns becomes the variable.",
        "End it with: return next_creator(**kwargs)",
    )
