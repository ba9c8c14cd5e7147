"""Turn what people pass as an initial value into a tensor that nobody else holds."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torchcreator._chain.checks import checked_form, refuse_constraint
from torchcreator._chain.sliceable import all_of
from torchcreator._errors import UNNAMED, VariableTypeError, VariableValueError, shown
from torchcreator.constraints._base import Projection


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

    __slots__ = ("_declared", "initialiser")

    def __init__(self, initialiser: Callable[[torch.Tensor], object], *declared: Any) -> None:
        self.initialiser = initialiser
        self._declared = declared

    def __call__(self) -> torch.Tensor:
        wanted = _wanted.get()
        if wanted is None or wanted.shape is None:  # a creator calls it itself, or dropped shape=
            name, shape, dtype, device = self._declared
            label = name if isinstance(name, str) and name else UNNAMED
            declared = Wanted(label, *checked_form(shape, dtype, device, label))
            wanted = declared if wanted is None else wanted._replace(shape=declared.shape)
        assert wanted.shape is not None  # in_place() was given one
        tensor = _allocated(wanted.shape, wanted)
        try:
            with torch.no_grad():
                result = self.initialiser(tensor)
        except TypeError as error:
            if not _at_the_call(error):
                raise  # it went wrong inside
            raise VariableTypeError(
                f"The initial value of variable {wanted.name!r} is {shown(self.initialiser)}.",
                f"With shape=, it is called with one tensor: {error}.",
                "Pass an initialiser of one tensor, such as nn.init.zeros_; bind other arguments "
                "with a lambda.",
            ) from error
        return result if isinstance(result, torch.Tensor) else tensor

    def __repr__(self) -> str:
        return f"InPlace({self.initialiser!r})"


def _allocated(shape: torch.Size, wanted: Wanted) -> torch.Tensor:
    try:
        return torch.empty(shape, dtype=wanted.dtype, device=wanted.device)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise _unallocated(wanted, tuple(shape), error) from error


def _unallocated(wanted: Wanted, shape: tuple[int, ...], error: Exception) -> VariableValueError:
    return VariableValueError(
        f"Variable {wanted.name!r} of shape {shown(shape)} could not be allocated.",
        f"torch says: {str(error).partition(chr(10))[0]}.",
        "Make it smaller, in shape or dtype; or make it without memory, with device='meta'.",
    )


def in_place(
    initial_value: Callable[..., Any], name: str | None, shape: Any, dtype: Any, device: Any
) -> Callable[[], Any]:
    """Return ``initial_value`` as a callable without arguments, wrapped if it takes a tensor."""
    if isinstance(initial_value, Projection) or not _takes_a_tensor(initial_value):
        return initial_value
    return InPlace(initial_value, name, shape, dtype, device)


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
    call, bound = function, 0
    if type(function) is not FunctionType:  # an object that can be called: a value of ours, say
        call, bound = type(function).__call__, 1
    if type(call) is not FunctionType or call.__dict__:  # torch's own, or wrapped
        return False
    if hasattr(function, "__wrapped__") or hasattr(function, "__signature__"):
        return False
    code = call.__code__
    return code.co_argcount == bound and not code.co_kwonlyargcount


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
    if unasked and type(value) is torch.Tensor and not value.is_nested:
        try:
            return value.detach().clone() if value.requires_grad else value.clone()
        except RuntimeError as error:
            raise _unallocated(Wanted(name, None, None, None), tuple(value.shape), error) from error
    return whole_of(value, Wanted(name, shape, dtype, device))


def whole_of(value: Any, wanted: Wanted) -> torch.Tensor:
    """Return the initial value as a tensor of the wanted form."""
    refuse_constraint(value, wanted.name)
    if isinstance(value, torch.Tensor):
        data = _copied(value, wanted)
    elif callable(value):
        data = _called(value, wanted)
    else:
        whole = all_of(value)
        data = _converted(value, wanted) if whole is value else whole_of(whole, wanted)
    check_shape(data.shape, wanted)
    return data


def check_shape(shape: torch.Size, wanted: Wanted) -> None:
    """Refuse a value of another shape than is wanted."""
    if wanted.shape is not None and shape != wanted.shape:
        raise VariableValueError(
            f"The initial value of variable {wanted.name!r} has another shape than it declares.\n"
            f"  expected: {tuple(wanted.shape)}\n"
            f"  actual:   {tuple(shape)}",
            "Shapes must be equal: an initial value is never broadcast.",
            "Pass a value of that shape, or leave shape= out.",
        )


@contextmanager
def asked_for(wanted: Wanted) -> Iterator[None]:
    """Let an initial value see what is asked of it while it is made."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def _copied(value: torch.Tensor, wanted: Wanted) -> torch.Tensor:
    check_tensor(value, wanted)
    if value.requires_grad:
        value = value.detach()
    if wanted.device is None or wanted.device == value.device:
        try:
            return value.clone()
        except RuntimeError as error:
            raise _unallocated(wanted, tuple(value.shape), error) from error
    return _moved(value, wanted, copy=True)


def _moved(value: torch.Tensor, wanted: Wanted, *, copy: bool) -> torch.Tensor:
    device = wanted.device
    try:
        return value.to(device, copy=copy)
    except RuntimeError as error:  # the meta device has no value to give
        raise VariableValueError(
            f"The initial value of variable {wanted.name!r} is on {value.device}.",
            f"torch cannot copy it to {device}: {str(error).partition(chr(10))[0]}",
            "Pass a value on that device, or leave device= out.",
        ) from error


def _called(function: Any, wanted: Wanted) -> torch.Tensor:
    own = isinstance(function, InPlace)
    if not own and wanted.shape is not None and _takes_a_tensor(function):  # a creator brought it
        function = InPlace(function, *wanted)
    token = _wanted.set(wanted)
    try:
        result = function()
    except TypeError as error:
        if not (_at_the_call(error) or _takes_a_tensor(function)):
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
        return whole_of(result, wanted)
    check_tensor(result, wanted)
    result = result.detach()
    return result if wanted.device is None else _moved(result, wanted, copy=False)


def _at_the_call(error: TypeError) -> bool:
    """Return whether a call failed before it reached any line of the function."""
    return error.__traceback__ is not None and error.__traceback__.tb_next is None


def _needs_an_argument(error: TypeError, wanted: Wanted) -> VariableTypeError:
    return VariableTypeError(
        f"The initial value of variable {wanted.name!r} is a callable that needs an argument.",
        f"Without shape=, it is called without one: {error}.",
        "Pass shape= with an in-place initialiser such as nn.init.zeros_, or a function without "
        "arguments.",
    )


def check_tensor(value: torch.Tensor, wanted: Wanted) -> None:
    """Refuse a value that is no tensor of one shape, or has another dtype than is wanted."""
    if value.is_nested or is_lazy(value):
        kind = type(value).__name__ if is_lazy(value) else "nested tensor"
        raise VariableTypeError(
            f"The initial value of variable {wanted.name!r} is a {kind}.",
            "A variable has one shape, known from its value.",
            "Pass a tensor of one shape; or validate_shape=False without a value to leave the "
            "shape open.",
        )
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
    except Exception as error:  # a value of somebody's own class may raise anything
        wrong_type = (
            isinstance(error, (TypeError, RuntimeError)) and "overflow" not in str(error).lower()
        )
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
