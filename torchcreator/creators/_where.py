"""The combinator that lets a creator see some variables only."""

from __future__ import annotations

from typing_extensions import Unpack

from torchcreator._errors import VariableTypeError, VariableValueError, called, shown
from torchcreator._spec.types import Creator
from torchcreator.creators._choice import Choice, Conditions, ready


def where(creator: Creator, **chosen: Unpack[Choice]) -> Creator:
    """Let a creator see those variables only that meet every condition given.

    This is for creators of your own, and for several conditions on one: the ready-made creators
    take the same keywords themselves, ``freeze(name="*.bias")``.

    ``name=`` is a glob, whose ``*`` matches dots too, or a compiled pattern, which is searched for,
    or a list of these, of which one has to match. Names are full in `build` and `recreate`, and
    local in a plain scope, where a constructor does not know yet what its module will be part of;
    ``"*.bias"`` means every bias in both, as a glob is tried with and without a dot before the
    name. A tied parameter is meant by any of its names.

    ``module=`` is the type of the module that owns it, or a list of types. ``when=`` is called
    with all keywords, ``when(**kwargs)``, and answers whether this variable is meant.

    A pattern that matched none of the variables made in its scope is told by a warning when the
    scope closes. With ``strict=True`` that is a `VariableValueError`, and so is a ``module=`` or a
    ``when=`` that met none; ``strict=False`` says that it may be.

    Args:
        creator: Asked about the variables that are meant; the others pass by.
        **chosen: The conditions: ``name=``, ``module=``, ``when=``; and ``strict=``.

    Raises:
        VariableTypeError: The creator is not callable, or a condition is of another type.
        VariableValueError: There is no condition.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> def halved(next_creator, **kwargs):
        ...     value = kwargs["initial_value"]
        ...     return next_creator(**{**kwargs, "initial_value": lambda: value() / 2})
        >>> gains = tc.creators.where(halved, module=nn.LayerNorm, name=["*.weight"])
        >>> with tc.creator_scope(gains):
        ...     model = tc.build(lambda: nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)))
        >>> model[1].weight.tolist()
        [0.5, 0.5, 0.5]
    """
    if not callable(creator):
        raise VariableTypeError(
            f"where got {shown(creator)} as its creator.",
            "It is called as creator(next_creator, **kwargs) for the variables that are meant.",
            "Write where(freeze(), name='*.bias'), say.",
        )

    made = ready("where", called(creator), choice=chosen)
    if all(chosen.get(word) is None for word in Conditions.__annotations__):
        raise VariableValueError(
            "where got no condition.",
            "It lets a creator see some variables only.",
            "Pass name=, module= or when=; or use the creator as it is.",
        )
    return made(creator)
