"""Draws as a constructor makes them, run plainly and recorded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from torchcreator._recorder.recording import record
from torchcreator._recorder.rng_outputs import READ_ON
from torchcreator._recorder.tape import Op

Draws = Callable[[], object]

as_read = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < READ_ON,
    reason="the table was read off a later torch; the probes' tests hold on this one, too",
)


class RefusingFunctions(TorchFunctionMode):
    """Stands for whatever of the user's must not see what is done."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        raise AssertionError(func)


class RefusingOperations(TorchDispatchMode):
    """The same, below."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        raise AssertionError(func)


def drawing_ops(draws: Draws) -> list[Op]:
    """Return what a recording of ``draws`` has on its tape that draws."""

    def factory():
        module = nn.Module()
        module.made = draws()
        return module

    _, recording, _ = record(factory, (), {}, device=None, seed=None, find=False)
    return [op for op in recording.tape.ops if op.traits.draws]


def drawing_op(draws: Draws) -> Op:
    """Return the only one."""
    (op,) = drawing_ops(draws)
    return op


def after_plainly(state: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return the state in which ``draws``, run plainly, leaves the default generator."""
    before = torch.get_rng_state()
    try:
        torch.set_rng_state(state)
        draws()
        return torch.get_rng_state()
    finally:
        torch.set_rng_state(before)


def start_states() -> list[torch.Tensor]:
    """Return states that a draw may start from: without and with a normal value at hand."""
    fresh, used, cached = (torch.Generator("cpu").manual_seed(seed) for seed in range(3))
    torch.rand(601, generator=used)
    torch.randn(5, generator=cached)
    return [generator.get_state() for generator in (fresh, used, cached)]
