"""A finished parameter as its creators meet it: it has its value, and somebody may hold it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torchcreator._build.recorded_parameter import other_shape
from torchcreator._chain.complaints import explain, returned_none
from torchcreator._chain.default import adopt
from torchcreator._chain.initial_value import wanted
from torchcreator._chain.scope import current_chain
from torchcreator._chain.target import Asked
from torchcreator._chain.target import target as _target
from torchcreator._errors import CreatorResultError, VariableValueError, shown
from torchcreator._modules.stock_parameter import moves
from torchcreator._recorder.boxes import Region
from torchcreator._recorder.live_tensors import put_data
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.spec import VariableSpec, spec_from
from torchcreator._spec.types import Creator, NextCreator

AUTO, NONE = VariableSynchronization.AUTO, VariableAggregation.NONE
Place = tuple[nn.Module, str]


class CurrentValue:
    """The value that a finished parameter has, copied when it is called.

    This is the ``initial_value`` that creators see: ``lambda: 2 * initial_value()`` works, and so
    does ``initial_value[2:5]``.
    """

    __slots__ = ("name", "tensor")

    def __init__(self, tensor: torch.Tensor, name: str) -> None:
        self.tensor = tensor
        self.name = name

    @property
    def shape(self) -> torch.Size:
        """The shape of the whole value."""
        return self.tensor.shape

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameter."""
        return self.tensor.dtype

    def __call__(self) -> torch.Tensor:
        return _as_asked(self.tensor.detach())

    def __getitem__(self, index: Any) -> torch.Tensor:
        return _as_asked(self.tensor.detach()[index])

    def __repr__(self) -> str:
        return f"<value of {self.name!r}>"


def _as_asked(value: torch.Tensor) -> torch.Tensor:
    asked = wanted()  # by the end of the chain, if a creator put a callable around this one
    dtype, device = (None, None) if asked is None else (asked.dtype, asked.device)
    return value.to(device, dtype, copy=True)


class FinishedTarget:
    """A parameter of a finished model that waits for its creators' decision.

    Until `settle`, what they decide can be undone. A new value is in memory of its own so far, so
    the parameter's own still has the old one.
    """

    __slots__ = (
        *(
            "as_it_was",
            "declared",
            "grad",
            "handed",
            "made",
            "module",
            "name",
            "names",
            "old",
            "parameter",
            "places",
        ),
        *("returned", "spec", "value"),
    )
    region: Region | None = None

    def __init__(
        self,
        parameter: nn.Parameter,
        name: str,
        module: nn.Module,
        local: str,
        declared: VariableSpec | None,
    ) -> None:
        self.module: nn.Module | None = module
        self.name = name
        self.names = [name]
        self.places: list[Place] = [(module, local)]
        self.parameter = parameter
        self.declared = declared
        self.value: Any = None
        self.handed: tuple[Any, ...] | None = None
        self.made: nn.Parameter | None = None
        self.returned: nn.Parameter | None = None
        self.spec: VariableSpec | None = None
        self.old: torch.Tensor | None = None
        self.grad: torch.Tensor | None = None
        self.as_it_was = False

    def ask(self, creator: Creator, onward: NextCreator) -> None:
        """Call the creators, and keep what they return."""
        parameter, name, module = self.parameter, self.name, self.module
        lazy = type(parameter) is not nn.Parameter and is_lazy(parameter)
        shape = None if lazy else parameter.shape
        trainable, dtype, device = parameter.requires_grad, parameter.dtype, parameter.device
        value = None if lazy else self.current()
        constraint = caching = tags = None
        group: Any = None
        synchronization, aggregation, known = AUTO, NONE, not lazy
        if self.declared is not None:  # what was declared holds, but for trainable
            (
                _, _, _, _, constraint, synchronization, aggregation, caching, group, tags, known,
            ) = self.declared  # fmt: skip
            tags = {k: v for k, v in tags.items() if k != "names"} if tags else None
        if len(self.names) > 1:
            tags = {**(tags or {}), "names": tuple(self.names)}
        self.value = value
        self.handed = (
            trainable, known, caching, name, dtype, constraint, synchronization, aggregation,
            shape, device, group, tags, module,
        )  # fmt: skip
        token = _target.set(self)
        try:
            made: Any = creator(
                onward,
                initial_value=value,
                trainable=trainable,
                validate_shape=known,
                caching_device=caching,
                name=name,
                dtype=dtype,
                constraint=constraint,
                synchronization=synchronization,
                aggregation=aggregation,
                shape=shape,
                device=device,
                process_group=group,
                tags=tags,
                module=module,
            )
        except (RecursionError, TypeError) as error:
            explain(error, FinishedTarget.ask, current_chain(adopt), name)
        finally:
            _target.reset(token)
        if made is None:
            raise returned_none(creator, name)
        if not isinstance(made, nn.Parameter):
            raise CreatorResultError(
                f"A creator returned {shown(made)} for {name!r}.",
                "A module holds torch.nn.Parameter objects.",
                "Return next_creator(**kwargs), or torch.nn.Parameter(...).",
            )
        self.returned = made
        self.as_it_was = self.as_it_was and made is parameter

    def current(self) -> Any:
        """Return the value as creators receive it."""
        return CurrentValue(self.parameter, self.name)

    def adopted(self) -> nn.Parameter:
        """Return the parameter as it is, declared to be what it is."""
        (
            trainable, known, caching, name, dtype, constraint, synchronization, aggregation,
            shape, _, group, tags, _,
        ) = self.handed or ()  # fmt: skip
        self.spec = spec_from(
            (name, shape, dtype, trainable, constraint, synchronization, aggregation, caching,
             group, tags or {}, known)
        )  # fmt: skip
        self.as_it_was, self.made = True, self.parameter
        return self.parameter

    def fill(self, data: torch.Tensor | None, asked: Asked) -> nn.Parameter:
        """Return the parameter with ``data`` in it, or its own value in the form asked for."""
        parameter = self.parameter
        if self.value is None and data is not None:
            raise VariableValueError(
                f"A creator set the initial_value of the lazy parameter {self.name!r}.",
                "Its shape is not known before the first forward, which then initialises it.",
                "Leave initial_value as None where shape is None.",
            )
        shape = asked.shape if data is None else data.shape
        if shape is not None and self.value is not None and shape != parameter.shape:
            raise other_shape(self.name, parameter.shape, shape)
        if data is None and moves(parameter, asked):
            own = parameter.data if self.value is None else parameter.detach()
            data = own.to(asked.device, asked.dtype)
        if data is not None:
            self._put(data)
        require(parameter, grad=asked.trainable)
        return parameter

    def _put(self, data: torch.Tensor) -> None:
        parameter = self.parameter
        self.old, self.grad = parameter.data, parameter.grad
        if self.value is not None:
            self.value.tensor = self.old
        lazy = self.value is None
        if not lazy and data.is_inference() is not parameter.is_inference():
            with _as(parameter):
                data = data.clone()
        _set(parameter, data, self.grad)

    def refuse(self) -> None:
        """Raise if something was decided that cannot be: nothing is, of a whole parameter."""

    @property
    def converted(self) -> bool:
        """Whether it has another dtype or device than before, so that its memory is another."""
        old, new = self.old, self.parameter
        if old is None:
            return False
        return (old.dtype, old.device, old.layout) != (new.dtype, new.device, new.layout)

    def settle(self) -> None:
        """Keep what was decided: a value of the old form is copied into the old memory."""
        old, parameter = self.old, self.parameter
        # What is expanded has no memory for each element.
        if old is None or self.converted or 0 in old.stride():
            return
        data = parameter.data
        parameter.data = old
        with _as(parameter), torch.no_grad():  # leaving inference mode turns gradients on
            parameter.copy_(data)

    def undo(self) -> None:
        """Let the parameter be what it was before its creators were asked."""
        if self.old is not None:
            _set(self.parameter, self.old, self.grad)
        if self.handed is not None:
            require(self.parameter, grad=self.handed[0])


def require(parameter: nn.Parameter, *, grad: bool) -> None:
    """Let a parameter have a gradient, or none."""
    if parameter.requires_grad is not grad:
        with nullcontext() if is_lazy(parameter) else _as(parameter):
            parameter.requires_grad = grad


def _set(parameter: nn.Parameter, data: torch.Tensor, grad: torch.Tensor | None) -> None:
    """Let a parameter hold other memory; its gradient follows, as with `torch.nn.Module.to`."""
    parameter.grad = None
    lazy: bool = is_lazy(parameter)
    if lazy:
        parameter.data = data
        return
    put_data(parameter, data)
    if grad is not None and (data.is_floating_point() or data.is_complex()):
        parameter.grad = grad.to(data.device, data.dtype)


def _as(parameter: nn.Parameter) -> AbstractContextManager[object]:
    """Return a context in which a parameter may be written: inference tensors in their mode."""
    return torch.inference_mode(parameter.is_inference())
