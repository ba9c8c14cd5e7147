"""Stock modules in a scope: what their creators see, and what becomes of what they answer."""

from __future__ import annotations

import torch
from torch import nn


class Ledger:
    """A creator that passes everything on and remembers what it saw."""

    def __init__(self):
        self.calls = []

    def __call__(self, next_creator, **kwargs):
        self.calls.append(kwargs)
        return next_creator(**kwargs)

    @property
    def names(self):
        """What it saw, as ``Owner.name``."""
        return [f"{type(call['module']).__name__}.{call['name']}" for call in self.calls]


def constant(value):
    """A creator that gives every parameter one value."""

    def creator(next_creator, **kwargs):
        kwargs["initial_value"] = torch.full(kwargs["shape"], value, dtype=kwargs["dtype"])
        return next_creator(**kwargs)

    return creator


def changed(**changes):
    """A creator that changes keywords."""

    def creator(next_creator, **kwargs):
        return next_creator(**{**kwargs, **changes})

    return creator


class Own(nn.Module):
    """A user's module: it keeps the parameter it made, hooks it, and fills it afterwards."""

    def __init__(self, **kwargs):
        super().__init__()
        made = nn.Parameter(torch.empty(2, 3), **kwargs)
        made.note = "mine"
        if made.requires_grad:
            made.register_hook(torch.neg)
        self.w = made
        self.made = [made]
        nn.init.constant_(made, 5.0)
