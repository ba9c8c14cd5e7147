"""Looks at a model's variables and says in plain data what they are."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

import torchcreator as tc
from torchcreator._cli.demo.messages import Row


def rows(model: nn.Module) -> list[Row]:
    """Return the model's variables with their policies."""
    return [
        Row(
            name,
            "×".join(map(str, parameter.shape)) or "scalar",
            "yes" if spec.trainable else "no",
            "" if spec.constraint is None else type(spec.constraint).__name__,
            spec.synchronization.name.lower(),
            spec.aggregation.name.lower(),
        )
        for name, parameter, spec in tc.named_specs(model)
    ]


def is_per_rank(spec: tc.VariableSpec) -> bool:
    """Return whether a variable has one value per rank."""
    own = (tc.VariableSynchronization.NONE, tc.VariableSynchronization.ON_READ)
    return spec.synchronization in own


def replicated(model: nn.Module) -> dict[str, str]:
    """Return a digest of each variable that is declared to be equal on all ranks."""
    return {name: digest(p) for name, p, spec in tc.named_specs(model) if not is_per_rank(spec)}


def per_rank(model: nn.Module) -> dict[str, str]:
    """Return a digest of each trained variable that is declared to be the rank's own."""
    return {
        name: digest(p)
        for name, p, spec in tc.named_specs(model)
        if is_per_rank(spec) and spec.trainable
    }


def frozen(model: nn.Module) -> dict[str, str]:
    """Return a digest of each variable that is shared and not trained."""
    return {
        name: digest(p)
        for name, p, spec in tc.named_specs(model)
        if not is_per_rank(spec) and not spec.trainable
    }


def overshoot(model: nn.Module) -> dict[str, float]:
    """Return how far each constrained variable is from where its constraint would put it."""
    with torch.no_grad():
        return {
            name: (spec.constraint(p) - p).abs().max().item()
            for name, p, spec in tc.named_specs(model)
            if spec.constraint is not None
        }


def longest_rows(model: nn.Module) -> dict[str, float]:
    """Return the norm of the longest row of each constrained matrix."""
    return {
        name: p.detach().norm(dim=1).max().item()
        for name, p, spec in tc.named_specs(model)
        if spec.constraint is not None and p.ndim == 2
    }


def digest(value: Tensor) -> str:
    """Return a digest of a tensor's bytes: equal digests, equal values."""
    return hashlib.sha256(value.detach().cpu().numpy().tobytes()).hexdigest()
