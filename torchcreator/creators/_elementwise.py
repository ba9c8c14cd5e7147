"""A function of each element of an initial value, which can be sliced where the value can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from torchcreator._chain.sliceable import all_of, sliceable_shape
from torchcreator._errors import VariableTypeError, shown


class Elementwise:
    """An initial value that is a function of another one, element by element."""

    __slots__ = ("_function", "_value")

    def __init__(self, value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._value = value
        self._function = function

    @property
    def shape(self) -> torch.Size | None:
        """The shape of the whole value, None where it cannot be sliced."""
        return sliceable_shape(self._value)

    def __call__(self) -> Any:
        value = self._value
        called = callable(value) and not isinstance(value, torch.Tensor)
        return self._of(value() if called else all_of(value), own=called)

    def __getitem__(self, index: Any) -> Any:
        return self._of(self._value[index], own=not isinstance(self._value, torch.Tensor))

    def _of(self, part: Any, *, own: bool) -> Any:
        if not isinstance(part, torch.Tensor):
            try:
                part = torch.tensor(part)
            except (TypeError, ValueError, RuntimeError, OverflowError):
                return part  # the default creator says what is wrong with it
        elif not own:  # the function may write to it, or return it
            part = part.clone()
        return self._function(part.detach())

    def __repr__(self) -> str:
        return f"elementwise({self._value!r}, {shown(self._function)})"


def elementwise(value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Elementwise:
    """Return an initial value that is a function of another one, element by element.

    For creators that change a value: ``lambda: function(value())`` is made whole, as nobody knows
    what it computes. This one is made in parts where ``value`` can be: a rank draws and reads only
    its part of a sharded parameter, and nothing is made where nobody asks.

    Args:
        value: The ``initial_value`` that the creator was handed: a callable, a tensor, an array, or
            what can be sliced. Any but None, which a stock module's is in a plain scope.
        function: Gets the value, or a part of it, as a tensor, and returns one of the same shape,
            each element of which has to depend on the same element alone.

    Raises:
        VariableTypeError: There is no value, or ``function`` cannot be called.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> from torchcreator.creators import elementwise
        >>> def halved(next_creator, **kwargs):
        ...     kwargs["initial_value"] = elementwise(kwargs["initial_value"], lambda v: v / 2)
        ...     return next_creator(**kwargs)
        >>> with tc.creator_scope(halved):
        ...     model = tc.build(nn.LayerNorm, 3)
        >>> model.weight.tolist()
        [0.5, 0.5, 0.5]
    """
    if value is None:
        raise VariableTypeError(
            "elementwise got None as the value.",
            "A stock module gives its parameters values after a plain scope's creators have run.",
            "Construct the model with build(), which knows true values; or set a value.",
        )
    if not callable(function):
        raise VariableTypeError(
            f"elementwise got {shown(function)} as the function.",
            "It is called with the value, or with a part of it.",
            "Pass a function of a tensor, elementwise(value, lambda v: v / 2), say.",
        )
    return Elementwise(value, function)
