"""Turn what people pass as an initial value into a tensor that nobody else holds."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import nn

from torchcreator._errors import VariableTypeError, VariableValueError, shown


class Wanted(NamedTuple):
    """What the default creator asks of an initial value, and for which variable."""

    name: str
    shape: torch.Size | None
    dtype: torch.dtype | None
    device: torch.device | None


_wanted: ContextVar[Wanted | None] = ContextVar("torchcreator_wanted", default=None)


def wanted() -> Wanted | None:
    """Return what the default creator asks of the initial value that it is calling right now."""
    return _wanted.get()


class InPlace:
    """An in-place initialiser as a callable without arguments.

    Creators may wrap any ``initial_value`` as ``lambda: f() * 2``; this one learns the final
    shape, dtype and device from the default creator, when it is called at last.
    """

    __slots__ = ("declared", "initialiser")

    def __init__(self, initialiser: Callable[[torch.Tensor], object], declared: Wanted) -> None:
        self.initialiser = initialiser
        self.declared = declared

    def __call__(self) -> torch.Tensor:
        wanted = _wanted.get() or self.declared
        shape = self.declared.shape if wanted.shape is None else wanted.shape
        assert shape is not None  # in_place() was given one
        tensor = torch.empty(shape, dtype=wanted.dtype, device=wanted.device)
        with torch.no_grad():
            result = self.initialiser(tensor)
        return result if isinstance(result, torch.Tensor) else tensor

    def __repr__(self) -> str:
        return f"InPlace({self.initialiser!r})"


def in_place(
    initial_value: Callable[..., Any], name: str | None, shape: Any, dtype: Any, device: Any
) -> Callable[[], Any]:
    """Return ``initial_value`` as a callable without arguments, wrapped if it takes a tensor."""
    if not _takes_a_tensor(initial_value):
        return initial_value
    label = name or "Variable"
    return InPlace(initial_value, Wanted(label, *checked_form(shape, dtype, device, label)))


def _takes_a_tensor(function: Any) -> bool:
    if _takes_nothing(function):
        return False
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    except ValueError:  # a builtin of torch; those that write in place have a final underscore
        while isinstance(function, functools.partial):
            function = function.func
        return getattr(function, "__name__", "").endswith("_")
    return False


def _takes_nothing(function: Any) -> bool:
    """Return whether a glance shows it, as of a lambda: asking for its signature takes 30 µs."""
    if type(function) is not FunctionType or function.__dict__:  # wrapped, say
        return False
    code = function.__code__
    return code.co_argcount == code.co_kwonlyargcount == 0


def checked_form(
    shape: Any, dtype: Any, device: Any, name: str
) -> tuple[torch.Size | None, torch.dtype | None, torch.device | None]:
    """Return shape, dtype and device as torch's own, each of which may be None."""
    if shape.__class__ is not torch.Size:  # a stock module's parameter brings it as it is
        shape = checked_shape(shape, name)
    if dtype.__class__ is not torch.dtype:
        dtype = checked_dtype(dtype, name)
    return shape, dtype, checked_device(device, name)


def checked_shape(shape: Any, name: str) -> torch.Size | None:
    """Return ``shape`` as a ``torch.Size``, or None for None."""
    if shape is None:
        return None
    try:
        size = torch.Size(shape)
    except TypeError:
        raise VariableTypeError(
            f"The shape of variable {name!r} is {shown(shape)}.",
            "A shape is a sequence of integers.",
            "Write it as a tuple, shape=(out_features, in_features), say.",
        ) from None
    if any(length < 0 for length in size):
        raise VariableValueError(
            f"The shape of variable {name!r} is {tuple(size)}.",
            "A dimension cannot be negative: nothing is there to infer it from.",
            "Write every dimension as a number from 0 upwards.",
        )
    return size


def checked_dtype(dtype: Any, name: str) -> torch.dtype | None:
    """Return ``dtype`` if it is one or None."""
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    raise VariableTypeError(
        f"The dtype of variable {name!r} is {shown(dtype)}, a {type(dtype).__name__}.",
        "A parameter's dtype is one of torch's.",
        "Pass a torch.dtype, dtype=torch.float32, say.",
    )


def checked_device(device: Any, name: str, keyword: str = "device") -> torch.device | None:
    """Return ``device`` as a ``torch.device`` that this machine has, or None for None."""
    if device is None:
        return None
    try:
        return _usable(device)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise VariableValueError(
            f"The {keyword} of variable {name!r} is {shown(device)}.",
            f"torch cannot use it here: {reason}",
            f"Pass a device that this machine has, {keyword}='cpu', say.",
        ) from error


@functools.cache  # a device that could be used once need not be tried for each variable
def _usable(device: Any) -> torch.device:
    checked = torch.device(device)
    if checked.type not in ("cpu", "meta"):
        torch.empty(0, device=checked)
    return checked


def tensor_of(
    value: Any,
    name: str,
    shape: torch.Size | None,
    dtype: torch.dtype | None,
    device: torch.device | None,
) -> torch.Tensor:
    """Return the initial value as a tensor of the wanted shape, dtype and device.

    A tensor, an array or a list is copied. What a callable returns is taken over.
    """
    unasked = shape is None and dtype is None and device is None
    if unasked and type(value) is torch.Tensor:
        return value.detach().clone() if value.requires_grad else value.clone()
    return _tensor_of(value, Wanted(name, shape, dtype, device))


def _tensor_of(value: Any, wanted: Wanted) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        data = _copied(value, wanted)
    elif callable(value):
        data = _called(value, wanted)
    else:
        data = _converted(value, wanted)
    if wanted.shape is not None and data.shape != wanted.shape:
        raise VariableValueError(
            f"The initial value of variable {wanted.name!r} has another shape than it declares.\n"
            f"  expected: {tuple(wanted.shape)}\n"
            f"  actual:   {tuple(data.shape)}",
            "Shapes must be equal: an initial value is never broadcast.",
            "Pass a value of that shape, or leave shape= out.",
        )
    return data


def _copied(value: torch.Tensor, wanted: Wanted) -> torch.Tensor:
    _check_dtype(value, wanted)
    if value.requires_grad:
        value = value.detach()
    if wanted.device is None or wanted.device == value.device:
        return value.clone()
    return value.to(wanted.device, copy=True)


def _called(function: Any, wanted: Wanted) -> torch.Tensor:
    own = isinstance(function, InPlace)
    if not own and wanted.shape is not None and _takes_a_tensor(function):  # a creator brought it
        function = InPlace(function, wanted)
    token = _wanted.set(wanted)
    try:
        result = function()
    except TypeError as error:
        if not _takes_a_tensor(function):
            raise  # it went wrong inside
        raise _needs_an_argument(error, wanted) from error
    finally:
        _wanted.reset(token)
    if result is None or callable(result):
        raise VariableTypeError(
            f"The initial value of variable {wanted.name!r} is a callable that returned "
            f"{shown(result)}.",
            "Without shape=, a callable takes no argument and returns the value.",
            "Return a tensor; or pass shape= with an in-place initialiser such as nn.init.zeros_.",
        )
    if not isinstance(result, torch.Tensor) or isinstance(result, nn.Parameter):
        return _tensor_of(result, wanted)
    _check_dtype(result, wanted)
    result = result.detach()
    return result if wanted.device is None else result.to(wanted.device)


def _needs_an_argument(error: TypeError, wanted: Wanted) -> VariableTypeError:
    return VariableTypeError(
        f"The initial value of variable {wanted.name!r} is a callable that needs an argument.",
        f"Without shape=, it is called without one: {error}.",
        "Pass shape= with an in-place initialiser such as nn.init.zeros_, or a function without "
        "arguments.",
    )


def _check_dtype(value: torch.Tensor, wanted: Wanted) -> None:
    if wanted.dtype is not None and value.dtype != wanted.dtype:
        raise VariableValueError(
            f"The initial value of variable {wanted.name!r} has another dtype than it declares.\n"
            f"  expected: {wanted.dtype}\n"
            f"  actual:   {value.dtype}",
            "A tensor is never cast silently: that hides bugs.",
            f"Pass value.to({wanted.dtype}), or leave dtype= out.",
        )


def _converted(value: Any, wanted: Wanted) -> torch.Tensor:
    try:
        data = torch.tensor(value, dtype=wanted.dtype, device=wanted.device)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        wrong_type = isinstance(error, (TypeError, RuntimeError)) and "overflow" not in str(error)
        reason = str(error).partition("\n")[0].rstrip(". ")
        raise (VariableTypeError if wrong_type else VariableValueError)(
            f"The initial value of variable {wanted.name!r} is {shown(value, 80)}.",
            f"torch cannot make a tensor of it: {reason}.",
            "Pass a tensor, an array, a number or a rectangular nested list of numbers.",
        ) from error
    if wanted.dtype is not None and _truncates(value, wanted.dtype):
        raise VariableTypeError(
            f"The initial value of variable {wanted.name!r} is {shown(value, 80)}.",
            f"Converting it to {wanted.dtype} would drop its fraction.",
            "Pass integers, or a floating dtype.",
        )
    return data


def _truncates(value: Any, dtype: torch.dtype) -> bool:
    """Return whether a Python float would lose its fraction (an array is converted as it says)."""
    if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool:
        return False
    if isinstance(value, Sequence):
        return any(_truncates(item, dtype) for item in value)
    return type(value) is float
