"""Variable creators for PyTorch: intercept, declare and carry out how every parameter is made.

Importing this package does not import torch: the pytest plugin lives in it, and torch takes
seconds. The names below are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchcreator import constraints as constraints
    from torchcreator import creators as creators
    from torchcreator import distributed as distributed
    from torchcreator import report as report
    from torchcreator import testing as testing
    from torchcreator._api import BuildError as BuildError
    from torchcreator._api import CheckpointError as CheckpointError
    from torchcreator._api import Constraint as Constraint
    from torchcreator._api import ConstraintError as ConstraintError
    from torchcreator._api import Creator as Creator
    from torchcreator._api import CreatorRecursionError as CreatorRecursionError
    from torchcreator._api import CreatorResultError as CreatorResultError
    from torchcreator._api import DistributedError as DistributedError
    from torchcreator._api import ForbiddenError as ForbiddenError
    from torchcreator._api import MissingExtraError as MissingExtraError
    from torchcreator._api import NextCreator as NextCreator
    from torchcreator._api import ScopeError as ScopeError
    from torchcreator._api import TorchCreatorError as TorchCreatorError
    from torchcreator._api import VariableAggregation as VariableAggregation
    from torchcreator._api import VariableKwargs as VariableKwargs
    from torchcreator._api import VariableSpec as VariableSpec
    from torchcreator._api import VariableSynchronization as VariableSynchronization
    from torchcreator._api import VariableTypeError as VariableTypeError
    from torchcreator._api import VariableValueError as VariableValueError
    from torchcreator._api import apply_constraints as apply_constraints
    from torchcreator._api import assign as assign
    from torchcreator._api import assign_add as assign_add
    from torchcreator._api import assign_sub as assign_sub
    from torchcreator._api import build as build
    from torchcreator._api import creator_scope as creator_scope
    from torchcreator._api import default_creator as default_creator
    from torchcreator._api import defer as defer
    from torchcreator._api import inspect as inspect
    from torchcreator._api import materialize as materialize
    from torchcreator._api import named_specs as named_specs
    from torchcreator._api import param_groups as param_groups
    from torchcreator._api import read_value as read_value
    from torchcreator._api import recreate as recreate
    from torchcreator._api import spec_of as spec_of
    from torchcreator._api import variable as variable

__version__ = "0.1.0"

_MODULES = ("constraints", "creators", "distributed", "report", "testing")

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
    "constraints",
    "creator_scope",
    "creators",
    "default_creator",
    "defer",
    "distributed",
    "inspect",
    "materialize",
    "named_specs",
    "param_groups",
    "read_value",
    "recreate",
    "report",
    "spec_of",
    "testing",
    "variable",
]

if not TYPE_CHECKING:  # type checkers see the imports above, and report every other name

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        # Once loaded, a name is an attribute like any other: no cost per access.
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}._api"), name)
        return value

    def __dir__() -> list[str]:
        return sorted(["__version__", *__all__])
