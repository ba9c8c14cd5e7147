"""Writes to and reads from one variable, by the synchronization and aggregation it declares."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from torchcreator._access.cached_copy import cached
from torchcreator._access.collectives import World, aggregate
from torchcreator._errors import VariableTypeError, VariableValueError, shown
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.table import spec_of
from torchcreator._torch.dtensor import is_sharded, own_part

if TYPE_CHECKING:
    from torchcreator._spec.types import Value

showing_readings: ContextVar[frozenset[int]] = ContextVar(
    "torchcreator_showing_readings", default=frozenset()
)
"""The ids of the ON_READ parameters that hold their aggregated value for the time being."""


def assign(v: nn.Parameter, value: Value) -> nn.Parameter:
    """Write ``value`` into a variable.

    One value that all ranks share (``ON_WRITE``) is written by all of them at once: what they
    pass is aggregated first, over the variable's process group. A value per rank (``ON_READ``,
    ``NONE``) is written on this rank only, and no other rank need call.

    Args:
        v: A variable.
        value: A tensor of the variable's dtype, or numbers; of the variable's shape. Nothing is
            broadcast, and a tensor is never cast.

    Returns:
        ``v`` itself.

    Raises:
        VariableValueError: Another shape; or one shared value on several ranks, and no
            aggregation that says which of theirs it is to be.
        VariableTypeError: Another dtype, or ``v`` is no variable.
        DistributedError: Another rank did not take part. The variable is as it was.

    Example:
        >>> import torchcreator as tc
        >>> steps = tc.variable(0, name="steps")
        >>> tc.assign(steps, 3).item()
        3
    """
    return _write(v, value, lambda target, new: target.copy_(new))


def assign_add(v: nn.Parameter, value: Value) -> nn.Parameter:
    """Add ``value`` to a variable; what several ranks pass is aggregated first, as in `assign`.

    Args:
        v: A variable.
        value: What to add, of the variable's shape and dtype.

    Returns:
        ``v`` itself.

    Example:
        >>> import torchcreator as tc
        >>> seen = tc.variable(10, name="seen", synchronization="on_read", aggregation="sum")
        >>> tc.assign_add(seen, 5).item()
        15
    """
    return _write(v, value, lambda target, new: target.add_(new))


def assign_sub(v: nn.Parameter, value: Value) -> nn.Parameter:
    """Subtract ``value`` from a variable; several ranks' are aggregated first, as in `assign`.

    Args:
        v: A variable.
        value: What to subtract, of the variable's shape and dtype.

    Returns:
        ``v`` itself.

    Example:
        >>> import torchcreator as tc
        >>> tc.assign_sub(tc.variable([1.0, 2.0]), [0.5, 0.5]).tolist()
        [0.5, 1.5]
    """
    return _write(v, value, lambda target, new: target.sub_(new))


def read_value(v: nn.Parameter) -> torch.Tensor:
    """Return a copy of a variable's value, as its declaration says.

    - ``ON_READ``: the aggregate of all ranks' values, so every rank must call; not differentiable.
    - otherwise this rank's value, differentiable back to the variable.
    - with a ``caching_device``: the copy held there, made anew when the variable has changed.
      Treat it as read-only.

    Args:
        v: A variable.

    Raises:
        VariableValueError: ``ON_READ`` on several ranks without an aggregation.
        DistributedError: Another rank did not take part.

    Example:
        >>> import torchcreator as tc
        >>> seen = tc.variable(10, synchronization="on_read", aggregation="sum")
        >>> tc.read_value(seen).item()  # on one rank, the sum is its own value
        10
    """
    spec = _checked_spec(v)
    if spec is None:
        return v.clone()
    if spec.synchronization is VariableSynchronization.ON_READ and id(v) not in _showing():
        reading = _reading(v, spec)
        return reading if spec.caching_device is None else reading.to(spec.caching_device)
    if spec.caching_device is not None and not is_sharded(v):
        return cached(v, spec.caching_device)
    return v.clone()


def world_of(spec: VariableSpec | None) -> World:
    """Return the ranks over which a variable is brought together."""
    return World.of(None if spec is None else spec.group())


def _showing() -> frozenset[int]:
    return showing_readings.get()


@torch.no_grad()
def _reading(v: nn.Parameter, spec: VariableSpec) -> torch.Tensor:
    world = world_of(spec)
    if world.size > 1 and spec.aggregation is VariableAggregation.NONE:
        raise VariableValueError(
            f"Variable {spec.name!r} is ON_READ and its aggregation is NONE.",
            f"Each of {world.size} ranks has a value, and nothing says how to make one of them.",
            "Declare aggregation='sum', 'mean' or 'only_first_replica'; or read this rank's value "
            "from the parameter itself.",
        )
    return aggregate(v, spec.aggregation, world, spec.name)


@torch.no_grad()
def _write(v: nn.Parameter, value: Value, write: Any) -> nn.Parameter:
    spec = _checked_spec(v)
    name = "Variable" if spec is None else spec.name
    new = _converted(v, value, name)
    if spec is None or spec.synchronization in (_AUTO, _ON_WRITE):
        new = _agreed(new, spec, name)
    write(v, own_part(new, v.device_mesh, v.placements) if is_sharded(v) else new)
    return v


_AUTO = VariableSynchronization.AUTO
_ON_WRITE = VariableSynchronization.ON_WRITE


def _agreed(new: torch.Tensor, spec: VariableSpec | None, name: str) -> torch.Tensor:
    """Return the one value that all ranks are going to write."""
    world = world_of(spec)
    if world.size == 1:
        return new
    aggregation = VariableAggregation.NONE if spec is None else spec.aggregation
    if aggregation is VariableAggregation.NONE:
        raise VariableValueError(
            f"Variable {name!r} is one value on {world.size} ranks, and its aggregation is NONE.",
            "Nothing says which of the ranks' values is to be written, and if each wrote its own, "
            "they would differ from now on.",
            "Declare aggregation='only_first_replica' if every rank passes the same value, 'sum' "
            "or 'mean' if they differ, or synchronization='none' for a value per rank.",
        )
    return aggregate(new, aggregation, world, name)


def _checked_spec(v: nn.Parameter) -> VariableSpec | None:
    """Return the spec of ``v``, after making sure that it has a value at all."""
    if not isinstance(v, torch.Tensor):
        raise VariableTypeError(
            f"{shown(v)} is a {type(v).__name__}.",
            "Only a variable can be written or read.",
            "Pass the parameter that variable() returned, or one of a module.",
        )
    spec = spec_of(v)
    if v.is_nested:
        raise _no_values(v, "Variable" if spec is None else spec.name)
    if v.is_meta or nn.parameter.is_lazy(v):
        name = "Variable" if spec is None else spec.name
        kind = "on the meta device" if v.is_meta else "uninitialized"
        raise VariableValueError(
            f"Variable {name!r} is {kind}.",
            "It has no value yet, so what is written to it would be lost.",
            "Materialize it first.",
        )
    return spec


def _converted(v: nn.Parameter, value: Value, name: str) -> torch.Tensor:
    """Return ``value`` as a tensor on the variable's device, of its dtype and shape."""
    if isinstance(value, torch.Tensor):
        if value.is_nested or value.is_meta or nn.parameter.is_lazy(value):
            raise _no_values(value, name)
        new = value.detach()
        if is_sharded(new):
            new = new.full_tensor()
        if new.dtype != v.dtype:
            raise VariableTypeError(
                f"The value for variable {name!r} has another dtype.\n"
                f"  expected: {v.dtype}\n"
                f"  actual:   {new.dtype}",
                "A tensor is never cast silently: that hides bugs.",
                f"Pass value.to({v.dtype}).",
            )
        new = new.to(v.device)
    else:
        new = _number(v, value, name)
    if new.shape != v.shape:
        raise VariableValueError(
            f"The value for variable {name!r} has another shape.\n"
            f"  expected: {tuple(v.shape)}\n"
            f"  actual:   {tuple(new.shape)}",
            "Shapes must be equal: a value is never broadcast.",
            f"Pass a value of that shape, torch.full({tuple(v.shape)}, number), say.",
        )
    return new


def _no_values(value: torch.Tensor, name: str) -> VariableTypeError:
    return VariableTypeError(
        f"The value for variable {name!r} is {shown(value)}.",
        "It has no values of one shape that could be written.",
        "Pass a tensor that has, or numbers.",
    )


def _number(v: nn.Parameter, value: Any, name: str) -> torch.Tensor:
    whole = not (v.dtype.is_floating_point or v.dtype.is_complex)
    try:
        natural = torch.tensor(value)
        if whole and natural.is_floating_point():
            reason = f"a fraction does not fit into {v.dtype}"
        else:
            return torch.tensor(value, dtype=v.dtype, device=v.device)
    except Exception as error:  # a value of somebody's own class may raise anything
        reason = str(error).partition("\n")[0]
    raise VariableTypeError(
        f"The value for variable {name!r} is {shown(value)}.",
        f"torch cannot make a {v.dtype} tensor of it: {reason}.",
        "Pass a tensor of the variable's dtype, or numbers that fit.",
    )
