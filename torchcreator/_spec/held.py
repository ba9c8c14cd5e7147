"""The parameters of a model: what each was declared as, and every place that holds it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.table import specs_of
from torchcreator._torch.modules import joined, paths


@dataclass(frozen=True, eq=False, slots=True)
class Held:
    """A parameter that a model holds.

    Attributes:
        parameter: The parameter.
        spec: What it was declared as, or None.
        names: All its full names, the first one first.
        places: The module that holds it under each, and its name there.
    """

    parameter: nn.Parameter
    spec: VariableSpec | None
    names: list[str]
    places: list[tuple[nn.Module, str]]


def held_by(model: nn.Module) -> list[Held]:
    """Return each parameter of a model once, in the order of ``named_parameters``."""
    names: dict[nn.Parameter, list[str]] = {}
    places: dict[nn.Parameter, list[tuple[nn.Module, str]]] = {}
    for path, module in paths(model):
        for local, parameter in module._parameters.items():
            if parameter is not None:
                names.setdefault(parameter, []).append(joined(path, local))
                places.setdefault(parameter, []).append((module, local))
    specs = specs_of([*names])
    return [Held(p, spec, names[p], places[p]) for p, spec in zip(names, specs, strict=True)]
