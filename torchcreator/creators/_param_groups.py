"""Optimizer groups of the options that a model's variables declare."""

from __future__ import annotations

from typing import Any

from torch import nn

from torchcreator._spec.table import checked_model, specs_of
from torchcreator.creators._policies import OPTIMIZER


def param_groups(model: nn.Module, **defaults: Any) -> list[dict[str, Any]]:
    """Return a model's parameters in groups for an optimizer, by the options they declare.

    Options are declared with `creators.optimizer`, or as ``tags={"optimizer": {...}}`` of a
    variable. Every parameter is in one group, once, frozen and undeclared ones too; groups and
    their members are in the order of ``model.parameters()``, so that an optimizer's saved state
    fits the next run.

    Args:
        model: Any module.
        **defaults: Options of the parameters that do not declare them.

    Returns:
        What a `torch.optim` optimizer takes as its parameters.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(
        ...     tc.creators.where(tc.creators.optimizer(weight_decay=0.0), name="*.bias")
        ... ):
        ...     model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> groups = tc.param_groups(model, weight_decay=0.1)
        >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
        [(2, 0.1), (2, 0.0)]
        >>> optimizer = torch.optim.AdamW(groups, lr=1e-3)
    """
    parameters = list(checked_model(model, "param_groups()").parameters())
    groups: list[tuple[dict[str, Any], list[nn.Parameter]]] = []
    for parameter, spec in zip(parameters, specs_of(parameters), strict=True):
        options = {**defaults, **(spec.tags.get(OPTIMIZER, {}) if spec else {})}
        for known, members in groups:  # few, and options need not be hashable
            if known == options:
                members.append(parameter)
                break
        else:
            groups.append((options, [parameter]))
    return [{"params": members, **options} for options, members in groups]
