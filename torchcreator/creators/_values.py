"""Creators that decide what value a parameter begins with, or which parameter it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from torchcreator._build.context import building
from torchcreator._chain.initial_value import InPlace, in_place, tensor_of
from torchcreator._errors import VariableTypeError, VariableValueError, shown
from torchcreator._spec.types import Creator, NextCreator, VariableKwargs
from torchcreator.creators._named import named


def initialize(function: Callable[..., Any]) -> Creator:
    """Give every variable its initial value, whatever its module would begin with.

    A lazy parameter, whose shape is not known yet, is left to its module.

    Args:
        function: An in-place initialiser in the manner of `torch.nn.init`, called with an empty
            tensor of the variable's shape, dtype and device; or a function without arguments that
            returns the value.

    Raises:
        VariableTypeError: ``function`` is not callable.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.initialize(nn.init.ones_)):
        ...     layer = nn.Linear(2, 1)
        >>> layer.weight.tolist(), layer.bias.tolist()
        ([[1.0, 1.0]], [1.0])
    """
    if not callable(function):
        raise VariableTypeError(
            f"initialize got {shown(function)}.",
            "It is called for each variable, which may differ in shape.",
            "Pass an initialiser, initialize(torch.nn.init.zeros_), say.",
        )

    @named(f"initialize({getattr(function, '__name__', None) or shown(function)})")
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        name, value = kwargs.get("name"), kwargs.get("initial_value")
        shape, dtype = kwargs.get("shape"), kwargs.get("dtype")
        if shape is not None:
            kwargs["initial_value"] = in_place(function, name, shape, dtype, kwargs.get("device"))
        elif value is not None:  # its shape is that of the value it would have had

            def initialised() -> Any:
                before = tensor_of(value, name or "Variable", None, dtype, None)
                begin = in_place(function, name, before.shape, before.dtype, before.device)
                if not isinstance(begin, InPlace):
                    return begin()
                written = torch.empty_like(before)
                with torch.no_grad():
                    result = begin.initialiser(written)
                return result if isinstance(result, torch.Tensor) else written

            kwargs["initial_value"] = initialised
        return next_creator(**kwargs)

    return creator


def share() -> Creator:
    """Return the same parameter for the same name: TensorFlow's ``AUTO_REUSE``.

    `build` knows full names, so models built in one such scope share what they have in common. In
    a plain scope a module's parameters are known by local names: choose the modules with `where`.
    A variable without a name is never shared.

    Raises:
        VariableValueError: From the scope, where two variables of one name differ in shape.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.share()):
        ...     left, right = nn.Linear(2, 3), nn.Linear(2, 3)
        >>> left.weight is right.weight
        True
    """
    known: dict[str, nn.Parameter] = {}

    @named("share()")
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        name = kwargs.get("name")
        if name is None:
            return next_creator(**kwargs)
        if (parameter := known.get(name)) is None:
            parameter = known[name] = next_creator(**kwargs)
        elif (shape := kwargs.get("shape")) is not None and parameter.shape != tuple(shape):
            raise _other_shape(name, parameter, tuple(shape))
        return parameter

    return creator


def _other_shape(name: str, parameter: nn.Parameter, shape: tuple[int, ...]) -> VariableValueError:
    return VariableValueError(
        f"share() has a variable {name!r} of another shape.\n"
        f"  asked for: {shape}\n"
        f"  known as:  {tuple(parameter.shape)}",
        "The same name means the same parameter, and in a plain scope a module's parameters are "
        "known by local names."
        if building.get() is None
        else "The same name means the same parameter.",
        "Construct the models with build(), which knows full names; or choose the modules: "
        "where(share(), module=...).",
    )
