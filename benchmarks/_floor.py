"""The least that any recorder of constructors costs: what `build` and `defer` cannot go below.

torch hands every call to a mode, in Python, and there have to be two of them: operations are seen
by a dispatch mode, and a constructor that asks a tensor where it is can be answered by a function
mode only. These two note what they see, and do nothing with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks._measure import DEVICE
from benchmarks._models import Factory

META = torch.device("meta")


class Passing(TorchFunctionMode):
    """Passes every call on."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Pass a call on."""
        return func(*args, **(kwargs or {}))


class Noting(TorchDispatchMode):
    """Notes every operation; makes tensors on meta, and leaves out what fills them."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch imports dynamo and takes longer for each call

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.noted: list[tuple[OpOverload, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note an operation."""
        self.noted.append((func, args, kwargs))
        makes, fills = kind(func)
        if fills and args[0].is_meta:
            return args[0]
        if makes:
            return func(*args, **{**(kwargs or {}), "device": META})
        return func(*args, **(kwargs or {}))


@cache
def kind(func: OpOverload) -> tuple[bool, bool]:
    """Return whether an operation makes a tensor of nothing, and whether it fills one."""
    arguments = func._schema.arguments
    tensors = ["Tensor" in str(argument.type) for argument in arguments]
    makes = not any(tensors) and any(argument.name == "device" for argument in arguments)
    fills = func._schema.name in {
        f"aten::{name}_" for name in ("uniform", "normal", "zero", "fill")
    }
    return makes, fills


def noted(factory: Factory) -> tuple[nn.Module, Noting]:
    """Construct a model on meta under the two modes."""
    with Passing(), Noting() as noting:
        return factory(), noting


def drawn(factory: Factory) -> nn.Module:
    """Construct a model under the two modes, and give each parameter one seeded draw."""
    model, _ = noted(factory)
    generator = torch.Generator(DEVICE)
    exchange: Callable[[torch.Tensor, torch.Tensor], None] = torch.utils.swap_tensors
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            value = torch.empty(parameter.shape, device=DEVICE)
            value.uniform_(generator=generator.manual_seed(number))
            exchange(parameter, nn.Parameter(value))
    return model


def bare_draws(factory: Factory) -> Callable[[], list[torch.Tensor]]:
    """Return nothing but draws of a model's matrices, a thread per core, a stream for each."""
    with torch.device("meta"):
        shapes = [p.shape for p in factory().parameters() if p.ndim > 1]

    def draw(numbered: tuple[int, torch.Size]) -> torch.Tensor:
        seed, shape = numbered
        generator = torch.Generator(DEVICE).manual_seed(seed)
        return torch.empty(shape, device=DEVICE).normal_(generator=generator)

    def drawn_at_once() -> list[torch.Tensor]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(draw, enumerate(shapes)))

    return drawn_at_once
