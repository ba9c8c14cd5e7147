"""Creators that decide what value a parameter begins with, or which parameter it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from torchcreator._build.context import building
from torchcreator._chain.initial_value import InPlace, in_place, tensor_of
from torchcreator._errors import (
    TorchCreatorError,
    VariableTypeError,
    VariableValueError,
    labelled,
    shown,
)
from torchcreator._spec.types import Creator, NextCreator, VariableKwargs
from torchcreator.constraints._base import Projection
from torchcreator.creators._choice import Choice, ready
from torchcreator.creators._made import is_assigned, is_loaded


def initialize(function: Callable[..., Any], **chosen: Unpack[Choice]) -> Creator:
    """Give every variable its initial value, whatever its module would begin with.

    A lazy parameter, whose shape is not known yet, is left to its module; and so is one that takes
    another one's place once its module is constructed, as `from_pretrained` loads weights.

    Args:
        function: An in-place initialiser in the manner of `torch.nn.init`, called with an empty
            tensor of the variable's shape, dtype and device; or a function without arguments that
            returns the value.
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, ``strict=``, as in `where`.

    Raises:
        VariableTypeError: ``function`` is not callable.
        VariableValueError: From the scope, where an initialiser cannot serve a variable's shape.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.initialize(nn.init.ones_)):
        ...     layer = nn.Linear(2, 1)
        >>> layer.weight.tolist(), layer.bias.tolist()
        ([[1.0, 1.0]], [1.0])
    """
    _refuse_other_than_initialiser(function)
    word = getattr(function, "__name__", None) or shown(function)

    @ready("initialize", word, choice=chosen)
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        name, value = kwargs.get("name"), kwargs.get("initial_value")
        shape, dtype = kwargs.get("shape"), kwargs.get("dtype")
        if is_loaded(kwargs):
            return next_creator(**kwargs)
        if shape is not None:
            declared = (name, shape, dtype, kwargs.get("device"))
            begin = in_place(function, *declared)
            takes_a_tensor = isinstance(begin, InPlace)
            kwargs["initial_value"] = _Told(word, function, *declared) if takes_a_tensor else begin
        elif value is not None:  # its shape is that of the value it would have had

            def initialised() -> Any:
                before = tensor_of(value, labelled(name), None, dtype, None)
                begin = in_place(function, name, before.shape, before.dtype, before.device)
                if not isinstance(begin, InPlace):
                    return begin()
                written = torch.empty_like(before)
                with torch.no_grad(), _Refused(written.shape, name, word):
                    result = begin.initialiser(written)
                return result if isinstance(result, torch.Tensor) else written

            kwargs["initial_value"] = initialised
        return next_creator(**kwargs)

    return creator


def _refuse_other_than_initialiser(function: object) -> None:
    if isinstance(function, Projection):
        raise VariableTypeError(
            f"initialize got the constraint {function!r}.",
            "A constraint changes a value that is there, and makes none.",
            "Write creators.constrain(...) for it, or pass an initialiser.",
        )
    if not callable(function):
        raise VariableTypeError(
            f"initialize got {shown(function)}.",
            "It is called for each variable, which may differ in shape.",
            "Pass an initialiser, initialize(torch.nn.init.zeros_), say.",
        )


class _Refused(AbstractContextManager[None]):
    """Name the variable, and say what to write, where an initialiser refuses a shape."""

    def __init__(self, shape: Sequence[int], name: str | None, word: str) -> None:
        self._shape, self._name, self._word = tuple(shape), labelled(name), word

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ValueError) and not isinstance(error, TorchCreatorError):
            raise VariableValueError(
                f"initialize({self._word}) was asked for variable {self._name!r}, of shape "
                f"{self._shape}.",
                f"{self._word} says: {str(error).partition(chr(10))[0].rstrip('.')}.",
                f"Choose the variables it serves: initialize({self._word}, "
                "when=lambda shape, **_: len(shape) > 1), say.",
            ) from error


class _Told(InPlace):
    """An initialiser that says which variable it refuses."""

    __slots__ = ("_word",)

    def __init__(self, word: str, initialiser: Callable[..., Any], *declared: Any) -> None:
        super().__init__(initialiser, *declared)
        self._word = word

    def __call__(self) -> torch.Tensor:
        name, shape, *_ = self._declared
        with _Refused(shape, name, self._word):
            return super().__call__()


def share(**chosen: Unpack[Choice]) -> Creator:
    """Return the same parameter for the same name: TensorFlow's ``AUTO_REUSE``.

    `build` and `recreate` know full names, so models that pass one such scope share what they have
    in common. In a plain scope a module's parameters are known by local names, ``"weight"``, which
    say nothing: a name that is asked for twice is refused there, but for variables that no module
    owns. A variable without a name is never shared.

    Args:
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, ``strict=``, as in `where`.

    Raises:
        VariableValueError: From the scope, where two variables of one name differ in shape, or a
            module in a plain scope asks for a name that is known already.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.share(name="0.*")):
        ...     one = tc.build(lambda: nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)))
        ...     other = tc.build(lambda: nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5)))
        >>> one[0].weight is other[0].weight, one[1].weight is other[1].weight
        (True, False)
    """
    known: dict[str, nn.Parameter] = {}
    local: set[str] = set()  # names that a module gave in a plain scope

    @ready("share", choice=chosen)
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        name = kwargs.get("name")
        if name is None or is_assigned():
            return next_creator(**kwargs)
        is_local = kwargs.get("module") is not None and building.get() is None
        if (parameter := known.get(name)) is None:
            parameter = known[name] = next_creator(**kwargs)
            local.update([name] if is_local else [])
        elif is_local or name in local:
            raise _local_name(name, kwargs.get("module") if is_local else None)
        elif (shape := _shape_of(kwargs)) is not None and parameter.shape != shape:
            raise _other_shape(name, parameter, shape)
        return parameter

    return creator


def _shape_of(kwargs: VariableKwargs) -> tuple[int, ...] | None:
    """Return the shape that a variable would have, or None where that is open."""
    shape, value = kwargs.get("shape"), kwargs.get("initial_value")
    if shape is not None or value is None:
        return None if shape is None else tuple(shape)
    with torch.device("meta"):  # for its shape alone: a callable makes and draws nothing
        return tuple(tensor_of(value, labelled(kwargs.get("name")), None, None, None).shape)


def _local_name(name: str, owner: nn.Module | None) -> VariableValueError:
    return VariableValueError(
        f"share() was asked for {name!r} again in a plain scope, by a {type(owner).__name__}."
        if owner is not None
        else f"share() was asked for {name!r}, which a module in a plain scope has.",
        "Parameters of different modules have the same local name there: sharing by it would tie "
        "layers that have nothing to do with each other.",
        "Construct the models with build(), which knows full names; or make what is to be shared "
        "with variable(name=...).",
    )


def _other_shape(name: str, parameter: nn.Parameter, shape: tuple[int, ...]) -> VariableValueError:
    return VariableValueError(
        f"share() has a variable {name!r} of another shape.\n"
        f"  asked for: {shape}\n"
        f"  known as:  {tuple(parameter.shape)}",
        "The same name means the same parameter.",
        "Give it another name, or choose what is shared: share(name='encoder.*'), say.",
    )
