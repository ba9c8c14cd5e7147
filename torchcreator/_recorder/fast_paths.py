"""Shortcuts: what constructors do most is logged as it is called.

A call takes microseconds to pass through torch's dispatcher to the recorder, which for a small
layer is most of what recording costs. A shortcut answers only what it is sure of; the rest, and
whatever another mode might want to see, goes through the dispatcher.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from torchcreator._recorder.dispatch_mode import Args, Kwargs, Recorder
from torchcreator._recorder.op_schema import Function, Traits, traits_of
from torchcreator._recorder.pytree import META
from torchcreator._torch.dispatch import (
    OpOverload,
    dispatch_stack_depth,
    function_modes_active,
    past_dispatch,
)
from torchcreator._torch.tensors import with_index

Shortcut = Callable[[Recorder, Args, Kwargs], Any]
_CPU = torch.device("cpu")
_FORM = frozenset({"device", "dtype"})
_PLAIN = (torch.Tensor, nn.Parameter)
_INT = frozenset({int})
_NUMBER = frozenset({bool, int, float})
_FANS = ("fan_in", "fan_out")


def passable() -> bool:
    """Return whether the recorder is the only mode that a call would meet on its way."""
    return dispatch_stack_depth() == 1 and not function_modes_active()


def _factory(function: Function, op: OpOverload) -> Shortcut:
    """Return the shortcut for a function that makes a tensor of some size."""
    traits = traits_of(op)

    def make(recorder: Recorder, args: Args, kwargs: Kwargs) -> Any:
        # A list would be the caller's, who may change it.
        size = tuple(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
        if not args or not (kwargs.keys() <= _FORM and _INT.issuperset(map(type, size))):
            return NotImplemented
        device = kwargs.get("device")
        device = _CPU if device is None else with_index(torch.device(device))
        if device == META:
            return NotImplemented
        guard = past_dispatch()
        try:
            out = function(size, dtype=kwargs.get("dtype"), device=META)
        finally:
            del guard
        recorder.log.made(op, traits, (size,), {"device": device}, out, device)
        return out

    return make


def _fill(method: Function, *words: str, draws: bool, least: int = 0) -> Shortcut:
    """Return the shortcut for a method that fills a tensor with numbers.

    Args:
        method: The method.
        words: What its arguments are called.
        draws: Whether it draws.
        least: How many of them it needs.
    """
    traits = Traits(draws=draws, seeded=method if draws else None, fills=True, lone=True)

    def fill(recorder: Recorder, args: Args, kwargs: Kwargs) -> Any:
        target, *numbers = args
        if kwargs and (numbers or not kwargs.keys() <= set(words)):
            return NotImplemented
        numbers += kwargs.values()
        if not least <= len(numbers) <= len(words) or not _NUMBER.issuperset(map(type, numbers)):
            return NotImplemented
        if target.requires_grad and torch.is_grad_enabled():
            return NotImplemented  # an error for a leaf, and history for others
        return _log(recorder, method, traits, target, args[1:], kwargs)

    return fill


def _initialise(method: Function, *words: str, draws: bool) -> Shortcut:
    """Return the shortcut for a function of `torch.nn.init` that only calls a method."""
    traits = Traits(draws=draws, seeded=method if draws else None, fills=True, lone=True)

    def initialise(recorder: Recorder, args: Args, kwargs: Kwargs) -> Any:
        if args or kwargs.get("generator") is not None:
            return NotImplemented
        numbers = tuple([kwargs[word] for word in words])
        if not _NUMBER.issuperset(map(type, numbers)):
            return NotImplemented
        return _log(recorder, method, traits, kwargs["tensor"], numbers, {})

    return initialise


def _kaiming(function: Function) -> Shortcut:
    """Return the shortcut for kaiming initialisation, logged whole: its bound is torch's."""
    traits = Traits(draws=True, seeded=function, fills=True, lone=True)

    def initialise(recorder: Recorder, args: Args, kwargs: Kwargs) -> Any:
        target, a, mode = kwargs["tensor"], kwargs["a"], kwargs["mode"]
        if args or kwargs["generator"] is not None or type(a) not in (int, float):
            return NotImplemented
        if mode not in _FANS or target.dim() < 2 or target.numel() == 0:
            return NotImplemented  # an error, or a warning
        options = {"a": a, "mode": mode, "nonlinearity": kwargs["nonlinearity"]}
        if kwargs["nonlinearity"] != "leaky_relu":
            nn.init.calculate_gain(kwargs["nonlinearity"], a)  # an error for an unknown one
        return _log(recorder, function, traits, target, (), options)

    return initialise


def _log(
    recorder: Recorder,
    func: Function,
    traits: Traits,
    target: torch.Tensor,
    numbers: Args,
    kwargs: Kwargs,
) -> Any:
    """Log a fill of a recorded tensor, and return the tensor."""
    if type(target) not in _PLAIN or target.is_inference():
        return NotImplemented
    storage = recorder.log.known(target)
    if storage is None:
        return NotImplemented
    recorder.log.fill(func, traits, storage, target, numbers, kwargs)
    return target


_T = torch.Tensor
_aten = torch.ops.aten
SHORTCUTS: dict[Function, Shortcut] = {
    torch.empty: _factory(torch.empty, _aten.empty.memory_format),
    torch.zeros: _factory(torch.zeros, _aten.zeros.default),
    torch.ones: _factory(torch.ones, _aten.ones.default),
    torch.rand: _factory(torch.rand, _aten.rand.default),
    torch.randn: _factory(torch.randn, _aten.randn.default),
    _T.fill_: _fill(_T.fill_, "value", draws=False, least=1),
    _T.zero_: _fill(_T.zero_, draws=False),
    _T.normal_: _fill(_T.normal_, "mean", "std", draws=True),
    _T.uniform_: _fill(_T.uniform_, "from", "to", draws=True),
    nn.init.constant_: _initialise(_T.fill_, "val", draws=False),
    nn.init.normal_: _initialise(_T.normal_, "mean", "std", draws=True),
    nn.init.uniform_: _initialise(_T.uniform_, "a", "b", draws=True),
    nn.init.kaiming_uniform_: _kaiming(nn.init.kaiming_uniform_),
}
"""What is logged as it is called, by the function that arrives. A shortcut returns what the call
does, or NotImplemented to have it dispatched."""
