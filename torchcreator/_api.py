"""Everything public, loaded at once when the first public name is used.

Loading it also connects the layers: stock modules to the scopes, and the optimizers' hook to the
first constrained variable.
"""

from __future__ import annotations

from torchcreator._assign import assign, assign_add, assign_sub, read_value
from torchcreator._build import build, defer
from torchcreator._default import default_creator
from torchcreator._enums import VariableAggregation, VariableSynchronization
from torchcreator._errors import TorchCreatorError
from torchcreator._materialize import materialize
from torchcreator._modules import install
from torchcreator._scope import creator_scope
from torchcreator._spec import VariableSpec
from torchcreator._table import named_specs, spec_of
from torchcreator._types import Constraint, Creator, NextCreator, VariableKwargs
from torchcreator._variable import variable
from torchcreator.creators._param_groups import param_groups
from torchcreator.optim import apply_constraints
from torchcreator.report._inspect import inspect

__all__ = [
    "Constraint",
    "Creator",
    "NextCreator",
    "TorchCreatorError",
    "VariableAggregation",
    "VariableKwargs",
    "VariableSpec",
    "VariableSynchronization",
    "apply_constraints",
    "assign",
    "assign_add",
    "assign_sub",
    "build",
    "creator_scope",
    "default_creator",
    "defer",
    "inspect",
    "materialize",
    "named_specs",
    "param_groups",
    "read_value",
    "spec_of",
    "variable",
]

install()
