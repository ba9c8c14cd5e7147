"""Everything public, loaded at once when the first public name is used.

Loading it also connects the layers: stock modules to the scopes, and the optimizers' hook to the
first constrained variable.
"""

from __future__ import annotations

from torchcreator._access.assign import assign, assign_add, assign_sub, read_value
from torchcreator._build.build import build, defer
from torchcreator._build.materialize import materialize
from torchcreator._build.recreate import recreate
from torchcreator._chain.default import default_creator
from torchcreator._chain.scope import creator_scope
from torchcreator._chain.variable import variable
from torchcreator._errors import (
    BuildError,
    CheckpointError,
    ConstraintError,
    CreatorRecursionError,
    CreatorResultError,
    DistributedError,
    ForbiddenError,
    MissingExtraError,
    ScopeError,
    TorchCreatorError,
    VariableTypeError,
    VariableValueError,
)
from torchcreator._modules.registration import install
from torchcreator._optim import hook
from torchcreator._optim.hook import apply_constraints
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.table import named_specs, spec_of
from torchcreator._spec.types import Creator, NextCreator, VariableKwargs
from torchcreator.constraints._base import Constraint
from torchcreator.creators._param_groups import param_groups
from torchcreator.report._inspect import inspect

__all__ = [
    "BuildError",
    "CheckpointError",
    "Constraint",
    "ConstraintError",
    "Creator",
    "CreatorRecursionError",
    "CreatorResultError",
    "DistributedError",
    "ForbiddenError",
    "MissingExtraError",
    "NextCreator",
    "ScopeError",
    "TorchCreatorError",
    "VariableAggregation",
    "VariableKwargs",
    "VariableSpec",
    "VariableSynchronization",
    "VariableTypeError",
    "VariableValueError",
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
    "recreate",
    "spec_of",
    "variable",
]

install()
hook.install()
