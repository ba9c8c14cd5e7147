"""The combinator that lets a creator see some variables only."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from torch import nn
from typing_extensions import Unpack

from torchcreator._errors import VariableTypeError, VariableValueError, called, shown
from torchcreator._spec.types import Creator, NextCreator, VariableKwargs
from torchcreator.creators._named import named

Pattern: TypeAlias = str | re.Pattern[str]


def where(
    creator: Creator,
    *,
    name: Pattern | tuple[Pattern, ...] | None = None,
    module: type[nn.Module] | tuple[type[nn.Module], ...] | None = None,
    when: Callable[..., bool] | None = None,
) -> Creator:
    """Let a creator see those variables only that meet every condition given.

    Names are full in `build` and local in a plain scope, where a constructor does not know yet
    what its module will be part of. ``"*.bias"`` means every bias in both: a glob is tried with
    and without a dot before the name.

    Args:
        creator: Asked about the variables that are meant; the others pass by.
        name: A glob, whose ``*`` matches dots too, or a compiled pattern, which is searched for;
            or several, of which one has to match. A tied parameter is meant by any of its names.
        module: The type of the module that owns it, or several.
        when: Called with all keywords, ``when(**kwargs)``.

    Raises:
        VariableTypeError: The creator is not callable, or a condition is of another type.
        VariableValueError: There is no condition.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> tall = tc.creators.where(
        ...     tc.creators.freeze(), module=nn.Linear, when=lambda shape, **_: shape[0] > 2
        ... )
        >>> with tc.creator_scope(tall):
        ...     model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1), nn.LayerNorm(4))
        >>> [p.requires_grad for p in model.parameters()]
        [False, False, True, True, True, True]
    """
    _check(creator, name, module, when)
    patterns = name if isinstance(name, tuple) else () if name is None else (name,)
    conditions = {"name": name, "module": module, "when": when}
    given = (f"{key}={shown(value)}" for key, value in conditions.items() if value is not None)

    def meant(kwargs: VariableKwargs) -> bool:
        if patterns and not any(_matches(pattern, kwargs) for pattern in patterns):
            return False
        if module is not None and not isinstance(kwargs.get("module"), module):
            return False
        return when is None or bool(when(**kwargs))

    @named(f"where({called(creator)}, {', '.join(given)})")
    def chosen(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        return creator(next_creator, **kwargs) if meant(kwargs) else next_creator(**kwargs)

    return chosen


def _matches(pattern: Pattern, kwargs: VariableKwargs) -> bool:
    tied = (kwargs.get("tags") or {}).get("names", ())
    for name in tied or (kwargs.get("name") or "Variable",):
        if isinstance(pattern, re.Pattern):
            if pattern.search(name):
                return True
        elif fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(f".{name}", pattern):
            return True
    return False


def _check(creator: Any, name: Any, module: Any, when: Any) -> None:
    if not callable(creator):
        raise VariableTypeError(
            f"where got {shown(creator)} as its creator.",
            "It is called as creator(next_creator, **kwargs) for the variables that are meant.",
            "Write where(freeze(), name='*.bias'), say.",
        )
    if name is None and module is None and when is None:
        raise VariableValueError(
            "where got no condition.",
            "It lets a creator see some variables only.",
            "Pass name=, module= or when=; or use the creator as it is.",
        )
    names = name if isinstance(name, tuple) else () if name is None else (name,)
    modules = module if isinstance(module, tuple) else () if module is None else (module,)
    for word, values, right in (
        ("name", names, lambda value: isinstance(value, (str, re.Pattern))),
        ("module", modules, lambda value: isinstance(value, type)),
        ("when", () if when is None else (when,), callable),
    ):
        for value in values:
            if not right(value):
                raise VariableTypeError(
                    f"where got {word}={shown(value)}.",
                    "A name is a glob or a compiled pattern, a module a type, when a function.",
                    "Write where(freeze(), name='*.bias', module=nn.Linear), say.",
                )
