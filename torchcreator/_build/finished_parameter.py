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
from torchcreator._errors import CreatorResultError, VariableValueError, shown
from torchcreator._modules.stock_parameter import moves
from torchcreator._recorder.boxes import Region
from torchcreator._recorder.live_tensors import put_data
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.spec import VariableSpec, spec_from
from torchcreator._spec.types import Creator, NextCreator

AUTO, NONE = VariableSynchronization.AUTO, VariableAggregation.NONE
Place = tuple[str, nn.Module, str]
"""A full name of a parameter, the module that has it, and the last part of the name."""


def as_asked(value: torch.Tensor) -> torch.Tensor:
    """Return a copy of a value, in the form that is asked for."""
    asked = wanted()  # by the end of the chain, if a creator put a callable around this one
    dtype, device = (None, None) if asked is None else (asked.dtype, asked.device)
    return value.to(device, dtype, copy=True)


class FinishedTarget:
    """A parameter of a finished model that waits for its creators' decision.

    It is the ``initial_value`` that they see, too: ``lambda: 2 * initial_value()`` works, and so
    does ``initial_value[2:5]``. What they get is a copy of the value that the parameter had.

    Until `settle`, what they decide can be undone. A new value is in memory of its own so far, so
    the parameter's own still has the old one.
    """

    region: Region | None = None
    as_it_was = lazy = False
    handed: VariableSpec | None = None
    device: torch.device | None = None
    made: nn.Parameter | None = None
    returned: nn.Parameter | None = None
    spec: VariableSpec | None = None
    old: torch.Tensor | None = None
    grad: torch.Tensor | None = None

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
        self.places: list[Place] = [(name, module, local)]
        self.parameter = parameter
        self.declared = declared

    def ask(self, creator: Creator, onward: NextCreator) -> None:
        """Call the creators, and keep what they return."""
        parameter, name, module = self.parameter, self.name, self.module
        if type(parameter) is not nn.Parameter:
            self.lazy = is_lazy(parameter)
        lazy = self.lazy
        shape = None if lazy else parameter.shape
        trainable, dtype = parameter.requires_grad, parameter.dtype
        self.device = device = parameter.device
        # What was declared holds, but for trainable.
        group: Any
        constraint, synchronization, aggregation, caching, group, tags, known = (
            (None, AUTO, NONE, None, None, {}, not lazy)
            if self.declared is None
            else self.declared[4:]
        )
        if tags or len(self.places) > 1:
            tags = {key: tag for key, tag in tags.items() if key != "names"}
            if len(self.places) > 1:
                tags["names"] = tuple([name for name, _, _ in self.places])
        self.handed = spec_from(
            (name, shape, dtype, trainable, constraint, synchronization, aggregation, caching,
             group, tags, known)
        )  # fmt: skip
        try:
            made: Any = creator(
                onward,
                initial_value=None if lazy else self,
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
                tags=tags or None,
                module=module,
            )
        except (RecursionError, TypeError) as error:
            explain(error, FinishedTarget.ask, current_chain(adopt), name)
        if made is not parameter:
            self._check(made, creator)
            self.as_it_was = False
        self.returned = made

    def _check(self, made: Any, creator: Creator) -> None:
        """Refuse what can take no parameter's place."""
        if made is None:
            raise returned_none(creator, self.name)
        if not isinstance(made, nn.Parameter):
            raise CreatorResultError(
                f"A creator returned {shown(made)} for {self.name!r}.",
                "A module holds torch.nn.Parameter objects.",
                "Return next_creator(**kwargs), or torch.nn.Parameter(...).",
            )

    @property
    def value(self) -> Any:
        """The value as creators receive it: None if it is lazy."""
        return None if self.lazy else self

    @property
    def shape(self) -> torch.Size:
        """The shape of the whole value."""
        return self.parameter.shape

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the parameter had."""
        return self._before().dtype

    def _before(self) -> torch.Tensor:
        return self.parameter if self.old is None else self.old

    def __call__(self) -> torch.Tensor:
        return as_asked(self._before().detach())

    def __getitem__(self, index: Any) -> torch.Tensor:
        return as_asked(self._before().detach()[index])

    def __repr__(self) -> str:
        return f"<value of {self.name!r}>"

    def adopted(self) -> nn.Parameter:
        """Return the parameter as it is, declared to be what its creators were told."""
        self.spec, self.made, self.as_it_was = self.handed, self.parameter, True
        return self.parameter

    def fill(self, data: torch.Tensor | None, asked: Asked) -> nn.Parameter:
        """Return the parameter with ``data`` in it, or its own value in the form asked for."""
        parameter = self.parameter
        if self.lazy and data is not None:
            raise VariableValueError(
                f"A creator set the initial_value of the lazy parameter {self.name!r}.",
                "Its shape is not known before the first forward, which then initialises it.",
                "Leave initial_value as None where shape is None.",
            )
        shape = asked.shape if data is None else data.shape
        if shape is not None and not self.lazy and shape != parameter.shape:
            raise other_shape(self.name, parameter.shape, shape)
        if data is None and moves(parameter, asked):
            own = parameter.data if self.lazy else parameter.detach()
            data = own.to(asked.device, asked.dtype)
        if data is not None:
            self._put(data)
        require(parameter, grad=asked.trainable)
        return parameter

    def _put(self, data: torch.Tensor) -> None:
        parameter = self.parameter
        self.old, self.grad = parameter.data, parameter.grad
        if not self.lazy and data.is_inference() is not parameter.is_inference():
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
            require(self.parameter, grad=self.handed.trainable)


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
