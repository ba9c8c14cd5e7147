"""Constraints under schedule-free optimizers, which show other weights in ``eval()``.

They keep two sequences, and train on a point between them: the iterate *z*, which gradients move,
and the average *x*, which ``eval()`` shows; weights while training are *y* = (1 - β) *z* + β *x*
(Defazio et al., "The Road Less Scheduled", 2024). An average computed from an iterate that has left
the set is outside too, however often *y* is projected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import Optimizer

Project = Callable[[list[torch.Tensor]], list[Any]]


def averages(optimizer: Optimizer) -> bool:
    """Return whether an optimizer shows averages of its weights in ``eval()``."""
    return any("train_mode" in group for group in optimizer.param_groups)


def project_sequences(
    optimizer: Optimizer, parameters: list[torch.Tensor], project: Project
) -> list[Any]:
    """Project iterate and average of each parameter, and put its weights between them again.

    Args:
        optimizer: A schedule-free optimizer, after a step.
        parameters: Some of its parameters.
        project: Projects parameters in place, and returns what went wrong.
    """
    wanted = {id(p) for p in parameters}
    failures = []
    for group in optimizer.param_groups:
        beta: float = group["momentum"] if "momentum" in group else group["betas"][0]
        ours = [p for p in group["params"] if id(p) in wanted and "z" in optimizer.state[p]]
        states = [optimizer.state[p] for p in ours]
        iterates = [state["z"] for state in states]
        shown = [
            state["x"] if "x" in state else p.lerp(state["z"].to(p.device), 1 - 1 / beta)
            for p, state in zip(ours, states, strict=True)
        ]
        failures += _projected(ours, shown, project)
        failures += _projected(ours, iterates, project)
        for p, x, state in zip(ours, shown, states, strict=True):
            p.copy_(x.lerp(state["z"].to(x), 1 - beta))
            if "y" in state:
                state["y"].copy_(p)
    return failures


def _projected(
    parameters: list[torch.Tensor], values: list[torch.Tensor], project: Project
) -> list[Any]:
    """Project values in place, as values of their parameters: constraints know those by name."""
    for p, value in zip(parameters, values, strict=True):
        p.copy_(value)
    failures = project(parameters)
    for p, value in zip(parameters, values, strict=True):
        value.copy_(p)
    return failures
