"""Whether a creator keeps to what every other one relies on."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from typing import Any

from torchcreator._api import creator_scope
from torchcreator._chain.open_scopes import current
from torchcreator._errors import TorchCreatorError, VariableTypeError, called, shown
from torchcreator._spec.types import Creator, VariableKwargs
from torchcreator.testing._situations import SITUATIONS

Refusals = type[BaseException] | tuple[type[BaseException], ...]

_INSTEAD = (
    "A creator takes (next_creator, **kwargs), passes keywords on, and returns a parameter:\n"
    "    def creator(next_creator, **kwargs):\n"
    "        return next_creator(**kwargs)"
)


def assert_creator_conforms(creator: Creator, *, refuses: Refusals = ()) -> None:
    """Fail unless a creator serves in every situation that it may be asked in.

    It is asked for variables with and without a name, with values of every kind, for the
    parameters of stock and of lazy modules, of modules that initialise them later, of which two
    have the same names, or that are loaded, for those of a finished model, for a parameter of a
    class of its own, twice in one chain, and with a keyword that does not exist yet.

    Args:
        creator: The creator.
        refuses: Errors by which it may decline, if it is made for some variables only.

    Raises:
        AssertionError: It does not; the message lists every situation and what went wrong.

    Example:
        >>> import torchcreator as tc
        >>> def frozen(next_creator, **kwargs):
        ...     return next_creator(**{**kwargs, "trainable": False})
        >>> tc.testing.assert_creator_conforms(frozen)
        >>> translation = {"weight": "gewicht"}
        >>> def translate(next_creator, **kwargs):
        ...     return next_creator(**{**kwargs, "name": translation[kwargs["name"]]})
        >>> try:
        ...     tc.testing.assert_creator_conforms(translate)
        ... except AssertionError as error:
        ...     print(str(error).splitlines()[6])
        - asked for a variable without a name: KeyError: None
    """
    __tracebackhide__ = True
    if not callable(creator):
        raise VariableTypeError(
            f"assert_creator_conforms got {shown(creator)}.",
            "A creator is called as creator(next_creator, **kwargs).",
            "Pass the function itself.",
        )
    complaints = list(_complaints(creator, refuses))
    if complaints:
        found = "".join(f"\n- {complaint}" for complaint in complaints)
        message = (
            f"Creator {called(creator)} does not conform.\nIt fails when it is{found}\n{_INSTEAD}"
        )
        raise AssertionError(message)


def _complaints(creator: Creator, refuses: Refusals) -> Iterator[str]:
    if problem := _signature_problem(creator):
        yield problem
        return
    for situation in SITUATIONS:
        before = current.get()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what they say is said here
                with creator_scope(creator):
                    problem = situation()
        except refuses:
            continue
        except Exception as error:
            problem = f"{type(error).__name__}: {_first_line(error)}"
        asked = (situation.__doc__ or "").rstrip(".")
        if problem:
            yield f"{asked[0].lower()}{asked[1:]}: {problem}"
        if current.get() is not before:
            current.set(before)
            yield f"{asked[0].lower()}{asked[1:]}: it leaves a scope open"


def _first_line(error: Exception) -> str:
    if isinstance(error, TorchCreatorError):
        return str(error).replace("\n", " ")
    return str(error).partition("\n")[0]


def _signature_problem(creator: Creator) -> str:
    try:
        signature = inspect.signature(creator)
    except ValueError:  # a builtin tells nothing
        return ""
    keywords: dict[str, Any] = dict.fromkeys(VariableKwargs.__annotations__)
    try:
        signature.bind(None, **keywords, a_later_keyword=None)
    except TypeError as error:
        return f"called with all keywords and one that may be added later: {error}"
    return ""
