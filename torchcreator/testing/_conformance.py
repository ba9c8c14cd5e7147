"""Whether a creator keeps to what every other one relies on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from torchcreator._api import creator_scope, variable
from torchcreator._chain.initial_value import wanted
from torchcreator._chain.open_scopes import current
from torchcreator._errors import TorchCreatorError, VariableTypeError, called, shown
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.types import Creator, VariableKwargs

Refusals = type[BaseException] | tuple[type[BaseException], ...]

_INSTEAD = (
    "A creator takes (next_creator, **kwargs), passes keywords on, and returns a parameter:\n"
    "    def creator(next_creator, **kwargs):\n"
    "        return next_creator(**kwargs)"
)


def assert_creator_conforms(creator: Creator, *, refuses: Refusals = ()) -> None:
    """Fail unless a creator serves in every situation that it may be asked in.

    It is asked for variables with and without a name, with values of every kind, for the
    parameters of stock and of lazy modules, twice in one chain, and with a keyword that does not
    exist yet.

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
    for situation in _SITUATIONS:
        before = current.get()
        try:
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


def _tensor() -> str:
    """Asked for a variable with a tensor as value."""
    value = torch.ones(2, 3)
    variable(value, name="gain")
    return "" if torch.equal(value, torch.ones(2, 3)) else "it changes the caller's tensor"


def _number() -> str:
    """Asked for a variable with a number as value."""
    variable(1.0, name="gain")
    return ""


def _lazy() -> str:
    """Asked for a variable with a function as value."""
    early: list[bool] = []

    def value() -> torch.Tensor:
        early.append(wanted() is None)
        return torch.ones(2, 3)

    variable(value, shape=(2, 3), dtype=torch.float32, name="gain")
    if any(early):
        return (
            "it calls initial_value itself, which computes what a creator further out may not "
            "need; wrap it, lambda: initial_value() * 2, say"
        )
    return ""


def _initialiser() -> str:
    """Asked for a variable with an initialiser of torch.nn.init."""
    shape = [2, 3]
    variable(nn.init.ones_, shape=shape, name="gain")
    return "" if shape == [2, 3] else "it changes the caller's shape"


def _nameless() -> str:
    """Asked for a variable without a name."""
    variable(torch.ones(2))
    return ""


def _counter() -> str:
    """Asked for an integer variable, one that has no gradient."""
    variable(torch.zeros(2, dtype=torch.int64), name="steps")
    return ""


def _per_rank() -> str:
    """Asked for a variable with policies."""
    variable(
        torch.zeros(2),
        name="seen",
        trainable=False,
        synchronization=VariableSynchronization.ON_READ,
        aggregation=VariableAggregation.SUM,
    )
    return ""


def _tagged() -> str:
    """Asked for a variable with tags."""
    tags = {"role": "gain"}
    variable(torch.ones(2), name="gain", tags=tags)
    return "" if tags == {"role": "gain"} else "it changes the caller's tags"


def _shapeless() -> str:
    """Asked for a variable of unknown shape."""
    variable(validate_shape=False, name="later")
    return ""


def _stock() -> str:
    """Asked for the parameters of a stock module."""
    layer = nn.Linear(3, 2)
    shapes = [tuple(p.shape) for p in layer.parameters()]
    return "" if shapes == [(2, 3), (2,)] else f"shapes (2, 3) and (2,) become {shapes}"


def _tied() -> str:
    """Asked for the parameters of a module that ties two of them."""
    model = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 3, bias=False))
    tied = model[0].weight = model[1].weight
    return "" if model[0].weight is tied else "it unties them"


def _lazy_module() -> str:
    """Asked for the parameters of a lazy module."""
    nn.LazyLinear(2)
    return ""


def _twice() -> str:
    """Asked twice in one chain."""
    link = current.get()
    assert link is not None
    with creator_scope(link.creator):
        variable(torch.ones(2), name="gain")
        nn.Linear(3, 2)
    return ""


_SITUATIONS: tuple[Callable[[], str], ...] = (
    _tensor,
    _number,
    _lazy,
    _initialiser,
    _nameless,
    _counter,
    _per_rank,
    _tagged,
    _shapeless,
    _stock,
    _tied,
    _lazy_module,
    _twice,
)
