"""Functions that are logged as one operation: torch makes them of other kernels on other devices.

What recorded tensors are on is meta, where an LSTM or an attention is made of matrix products. On a
CPU there are kernels for the whole of it, whose last bits differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from torchcreator._recorder.dispatch_mode import Recorder
from torchcreator._recorder.op_schema import Traits, traits_of
from torchcreator._recorder.pytree import blank, hollow, mapped, tensors_in
from torchcreator._torch.dispatch import (
    DispatchMode,
    OpOverload,
    no_dispatch_modes,
    no_function_modes,
)

Function = Callable[..., Any]
_WHOLE = Traits(written=frozenset())


def whole(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> Any:
    """Log a call as one operation, where it neither draws nor writes to what it was given."""
    with no_function_modes():
        tensors = list(tensors_in(args, kwargs))
        recorded = any(tensor.is_meta and recorder.log.knows(tensor) for tensor in tensors)
        recorded = recorded and not recorder.autocast
        if recorded and kwargs.get("out") is None and not _draws(func, args, kwargs):
            different = list({id(tensor): tensor for tensor in tensors}.values())
            places = {id(tensor): place for place, tensor in enumerate(different)}
            order = [places[id(tensor)] for tensor in tensors]
            call = _Call(recorder, func, args, kwargs, order)
            results = iter(_Differentiable.apply(call, *different))  # type: ignore[no-untyped-call]
            return mapped(call.out, lambda _: next(results))
    return func(*args, **kwargs)


class _Watch(DispatchMode):
    """Notices whether something is drawn."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.drew = False

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        self.drew |= traits_of(func).draws
        with no_dispatch_modes():  # the recorder is beneath
            return func(*args, **(kwargs or {}))


def _draws(func: Function, args: Any, kwargs: Any) -> bool:
    """Return whether a call draws, or cannot be tried without values."""
    try:
        with torch.no_grad(), _Watch() as watch:
            func(*hollow(args), **hollow(kwargs))
            drew: bool = watch.drew
            return drew
    except Exception:  # also the constructor's own mistake: see what happens
        return True


class _Call:
    """A call on recorded tensors.

    Args:
        recorder: Logs it.
        func: What is called.
        args: Its arguments.
        kwargs: Its keyword arguments.
        order: Which of the different tensors stands where: some functions look whether two are one.

    Attributes:
        out: What it returns, on meta.
    """

    def __init__(
        self, recorder: Recorder, func: Function, args: Any, kwargs: Any, order: list[int]
    ) -> None:
        self._log = recorder.log
        self._func = func
        self._args = args
        self._kwargs = kwargs
        self._order = order
        self.out: Any = None

    def run(self, tensors: Sequence[torch.Tensor], needs: Sequence[bool]) -> list[torch.Tensor]:
        """Log the call, and return its results."""
        args, kwargs = self._with(tensors)
        with no_dispatch_modes(), no_function_modes():
            self.out = self._func(*hollow(args), **hollow(kwargs))
        results = [*tensors_in(self.out)]
        self._put(_Forward(self._func, needs, self._order), args, kwargs, results, tensors)
        return results

    def run_backward(
        self, tensors: Sequence[torch.Tensor], needs: Sequence[bool], grads: Sequence[torch.Tensor]
    ) -> list[torch.Tensor | None]:
        """Log the gradients of the call with regard to the tensors that need one."""
        args, kwargs = self._with(tensors)
        pairs = zip(tensors, needs, strict=True)
        found = [blank(tensor) if need else None for tensor, need in pairs]
        wanted = [tensor for tensor in found if tensor is not None]
        self._put(_Backward(self._func, needs, self._order), (grads, args), kwargs, wanted, tensors)
        return found

    def _with(self, tensors: Sequence[torch.Tensor]) -> tuple[Any, Any]:
        left = iter([tensors[place] for place in self._order])
        return mapped(self._args, lambda _: next(left)), mapped(self._kwargs, lambda _: next(left))

    def _put(
        self,
        func: Function,
        args: Any,
        kwargs: Any,
        results: list[torch.Tensor],
        used: Sequence[torch.Tensor],
    ) -> None:
        device = next(self._log.device_of(tensor) for tensor in used if self._log.knows(tensor))
        for result in results:
            self._log.tape.add(result, device)
        self._log.computed(func, _WHOLE, args, kwargs, results)


class _Differentiable(torch.autograd.Function):
    """A call whose backward is logged as one operation too."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: torch.Tensor) -> Any:
        ctx.call = call
        ctx.save_for_backward(*tensors)
        return tuple(call.run(tensors, ctx.needs_input_grad[1:]))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        with no_function_modes():
            tensors, needs = ctx.saved_tensors, ctx.needs_input_grad[1:]
            return None, *ctx.call.run_backward(tensors, needs, grads)


class _Replayed:
    """Runs a function as the constructor ran it: what needs a gradient decides on kernels too."""

    def __init__(self, func: Function, needs: Sequence[bool], order: list[int]) -> None:
        self.func = func
        self.order = order
        self.needs = needs
        self.__name__ = getattr(func, "__name__", str(func))

    def leaves(self, args: Any, kwargs: Any) -> tuple[list[torch.Tensor], Any]:
        """Return the tensors, and what the function gives for them."""
        found: dict[int, torch.Tensor] = {}
        order = iter(self.order)

        def leaf(tensor: torch.Tensor) -> torch.Tensor:
            place = next(order)
            if place not in found:
                found[place] = tensor.detach().requires_grad_(self.needs[place])
            return found[place]

        with torch.set_grad_enabled(any(self.needs)):
            args, kwargs = mapped(args, leaf), mapped(kwargs, leaf)
            return list(found.values()), self.func(*args, **kwargs)


class _Forward(_Replayed):
    """What the function gives."""

    def __call__(self, *args: Any, **kwargs: Any) -> list[torch.Tensor]:
        _, out = self.leaves(args, kwargs)
        return [tensor.detach() for tensor in tensors_in(out)]


class _Backward(_Replayed):
    """The gradients with regard to what the function was given."""

    def __call__(self, grads: Sequence[torch.Tensor], args: Any, **kwargs: Any) -> Any:
        found, out = self.leaves(args, kwargs)
        wanted = [tensor for tensor in found if tensor.requires_grad]
        outs = [
            (tensor, grad)
            for tensor, grad in zip(tensors_in(out), grads, strict=True)
            if tensor.requires_grad
        ]
        return torch.autograd.grad(
            [tensor for tensor, _ in outs],
            wanted,
            [grad for _, grad in outs],
            allow_unused=True,
            materialize_grads=True,
        )


WHOLE: tuple[Function, ...] = (
    torch.lstm,
    torch.gru,
    torch.rnn_tanh,
    torch.rnn_relu,
    torch.quantile,
    torch.nanquantile,
    torch.Tensor.quantile,
    torch.Tensor.nanquantile,
    F.scaled_dot_product_attention,
    F.multi_head_attention_forward,
)
"""The functions of which this is known."""
