"""Optimizer groups of the options that a model's variables declare."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from torchcreator._errors import called
from torchcreator._spec.table import checked_model, specs_of
from torchcreator.creators._options import check_options, options_of, warn_of_unknown
from torchcreator.creators._policies import OPTIMIZER


def param_groups(
    model: nn.Module, *, optimizer: type[torch.optim.Optimizer] | None = None, **defaults: Any
) -> list[dict[str, Any]]:
    """Return a model's parameters in groups for an optimizer, by the options they declare.

    Options are declared with `creators.optimizer`, or as ``tags={"optimizer": {...}}`` of a
    variable. Every parameter is in one group, once, frozen and undeclared ones too; groups and
    their members are in the order of ``model.parameters()``, so that an optimizer's saved state
    fits the next run.

    Args:
        model: Any module.
        optimizer: The class that will read the groups. torch takes any key in a group, and
            reads those that it knows: with the class given, another one is an error.
        **defaults: Options of the parameters that do not declare them.

    Returns:
        What a `torch.optim` optimizer takes as its parameters.

    Raises:
        VariableValueError: The optimizer has no such option; the error names the parameter.
        VariableTypeError: ``optimizer`` is no class of optimizers.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.optimizer(weight_decay=0.0, name="*.bias")):
        ...     model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> groups = tc.param_groups(model, optimizer=torch.optim.AdamW, weight_decay=0.1)
        >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
        [(2, 0.1), (2, 0.0)]
        >>> optimizer = torch.optim.AdamW(groups, lr=1e-3)
    """
    named = list(checked_model(model, "param_groups()").named_parameters())
    known = None if optimizer is None else options_of(optimizer)
    kind = called(optimizer)
    if optimizer is None:
        warn_of_unknown(defaults)
    check_options(defaults, known, kind, "param_groups() was given for all")
    groups: list[tuple[dict[str, Any], list[nn.Parameter]]] = []
    for (name, parameter), spec in zip(named, specs_of([p for _, p in named]), strict=True):
        declared = spec.tags.get(OPTIMIZER, {}) if spec else {}
        check_options(declared, known, kind, f"{name!r} declares")
        options = {**defaults, **declared}
        for held, members in groups:  # few, and options need not be hashable
            if held == options:
                members.append(parameter)
                break
        else:
            groups.append((options, [parameter]))
    return [{"params": members, **options} for options, members in groups]
