"""Finished models, and what was in them."""

from __future__ import annotations

import torch
from torch import nn

import torchcreator as tc


class Holds(nn.Module):
    """Has its parameter in every place that a module has."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        weight = self.layer.weight
        self.listed = [weight, [weight]]
        self.fixed = (1, (weight, 2))
        self.named = {"weight": weight}
        self.__dict__["plain"] = weight
        self.shown = lambda: weight
        self.again = nn.ParameterList([weight])

    def places(self):
        weight = self.layer.weight
        return {
            "list": self.listed[0],
            "inner list": self.listed[1][0],
            "tuple": self.fixed[1][0],
            "dictionary": self.named["weight"],
            "attribute": self.plain,
            "closure": self.shown(),
            "parameter list": self.again[0],
        }, weight


def snapshot(model):
    """Return what has to be the same after a failure."""
    return {
        "names": [name for name, _ in model.named_parameters(remove_duplicate=False)],
        "objects": [id(p) for p in model.parameters()],
        "memory": [p.data_ptr() for p in model.parameters()],
        "forms": [(p.dtype, p.device, p.requires_grad) for p in model.parameters()],
        "gradients": [id(p.grad) for p in model.parameters()],
        "values": [p.detach().clone().tolist() for p in model.parameters()],
        "buffers": [b.clone().tolist() for b in model.buffers()],
        "modules": [name for name, _ in model.named_modules()],
        "hooks": [len(m._forward_hooks) for m in model.modules()],
        "specs": [(name, spec) for name, _, spec in tc.named_specs(model)],
    }


def trained(model, *inputs):
    """Return the model, with a gradient of everything."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    return model


def passing(change):
    """A creator that changes the keywords of every variable by ``change(kwargs)``."""

    def creator(next_creator, **kwargs):
        change(kwargs)
        return next_creator(**kwargs)

    return creator


def recreated(model, *creators):
    with tc.creator_scope(*creators):
        assert tc.recreate(model) is model
    return model
