"""Optimizers that step in unusual ways, and parameters for them."""

from __future__ import annotations

import torch
from torch import nn

import torchcreator as tc
from torchcreator import constraints as c
from torchcreator._spec.table import declaration_of, declare

HALFWAY = c.MinMaxNorm(0.0, 1.0, rate=0.5)
"""Not idempotent: each projection halves the excess over a length of one."""


class Double(torch.optim.SGD):
    """A subclass that calls ``super().step()``: torch's hooks run twice."""

    def step(self, closure=None):
        return super().step(closure)


class Scaling(torch.optim.SGD):
    """A subclass that writes after ``super().step()``."""

    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(10)


class Wrapping(torch.optim.Optimizer):
    """An optimizer that steps another one, as PostLocalSGDOptimizer does, and may write after."""

    def __init__(self, inner: torch.optim.Optimizer, factor: float | None = None) -> None:
        super().__init__(inner.param_groups, {})
        self.param_groups = inner.param_groups
        self.inner, self.factor = inner, factor

    @torch.no_grad()
    def step(self, closure=None):
        self.inner.step(closure)
        for group in self.param_groups if self.factor else ():
            for p in group["params"]:
                p.mul_(self.factor)


def vector(*values: float, constraint: object = "non_neg", **options: object) -> nn.Parameter:
    return tc.variable(list(values), constraint=constraint, **options)


def still(p: nn.Parameter) -> nn.Parameter:
    """Give a parameter a gradient of zero: a step then counts without moving it."""
    p.grad = torch.zeros_like(p)
    return p


def declare_like(module: nn.Module, name: str, like: nn.Parameter) -> None:
    """Declare a parameter of a module as another one was."""
    declaration = declaration_of(like)
    declare(module, name, declaration._replace())


def gathered(p: torch.Tensor) -> torch.Tensor:
    """Return the whole of a parameter that may be sharded."""
    return p.full_tensor().detach() if hasattr(p, "full_tensor") else p.detach()
