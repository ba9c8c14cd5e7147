"""What creators ask about a parameter that the rest of the chain has just made."""

from __future__ import annotations

import torch
from torch import nn

from torchcreator._build.context import building
from torchcreator._chain.target import target
from torchcreator._modules.pinned import constructing
from torchcreator._modules.stock_parameter import LoadedTarget
from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.table import OWN, attach
from torchcreator._spec.types import VariableKwargs

_INSTEAD = "_torchcreator_instead"


def declaration_of_new(parameter: nn.Parameter) -> VariableSpec | None:
    """Return what a parameter was declared as; a module's own is not in its table yet."""
    waiting = target.get()
    if waiting is not None and waiting.made is parameter:
        return waiting.spec
    own: VariableSpec | None = parameter.__dict__.get(OWN)
    return own


def is_valued(parameter: nn.Parameter) -> bool:
    """Return whether a parameter has its value; a stock module gives its own in a scope later."""
    waiting = target.get()
    return waiting is None or waiting.made is not parameter or getattr(waiting, "valued", True)


def is_assigned() -> bool:
    """Return whether a load asks which dtype and device its values, which stay, are wanted in."""
    return isinstance(target.get(), LoadedTarget)


def is_loaded(kwargs: VariableKwargs) -> bool:
    """Return whether a parameter takes the place of one that its module was constructed with.

    Whoever puts it there, a library that loads weights say, means the value that it has.
    """
    if is_assigned():
        return True
    module, name = kwargs.get("module"), kwargs.get("name")
    if module is None or name is None or building.get() is not None:
        return False
    return module._parameters.get(name) is not None and not constructing(module)


def replacement_of(parameter: nn.Parameter) -> nn.Parameter | None:
    """Return what took this parameter's place before: one shared parameter keeps being one."""
    before: nn.Parameter | None = parameter.__dict__.get(_INSTEAD)
    return before


def replaced(parameter: nn.Parameter, tensor: torch.Tensor) -> nn.Parameter:
    """Return a parameter of another tensor class in the place of one, with its declaration.

    Args:
        parameter: What the rest of the chain made.
        tensor: What is to stand in its place: a fake tensor, a `DTensor`.
    """
    made = nn.Parameter(tensor, parameter.requires_grad)
    declaration = declaration_of_new(parameter)
    if declaration is not None:
        attach(made, declaration)
    parameter.__dict__[_INSTEAD] = made
    return made
