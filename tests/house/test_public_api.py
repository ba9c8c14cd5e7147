"""What the package offers at its top level: these names, and no other."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import torchcreator as tc

NAMES = {
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
}
MODULES = {"constraints", "creators", "distributed", "report", "testing"}


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    ).stdout


def test_the_public_names_are_these():
    """The names and public modules of the package are exactly those that are promised."""
    assert set(tc.__all__) == NAMES | MODULES
    assert len(tc.__all__) == len(set(tc.__all__))


def test_importing_does_not_import_torch():
    """``import torchcreator`` is free of torch until a name is used; then it is loaded."""
    code = (
        "import sys, torchcreator\n"
        "dir(torchcreator), torchcreator.__version__\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
        "torchcreator.variable\n"
        "assert 'torch' in sys.modules\n"
    )
    run(code)


@pytest.mark.parametrize("name", sorted(NAMES | MODULES))
def test_each_name_loads_by_itself(name):
    """Every public name is there, and is the same object each time."""
    assert getattr(tc, name) is getattr(tc, name)


def test_public_modules_are_attributes():
    """A public module needs no import of its own: ``tc.constraints`` is enough, in any order."""
    code = "import torchcreator as tc\nfor m in {!r}: print(getattr(tc, m).__name__)"
    printed = run(code.format(sorted(MODULES))).split()
    assert printed == [f"torchcreator.{name}" for name in sorted(MODULES)]


def test_star_import_gives_the_public_names():
    """``from torchcreator import *`` brings the public names and nothing else."""
    code = (
        "before = set(dir())\n"
        "from torchcreator import *\n"
        "print(*sorted(set(dir()) - before - {'before'}))"
    )
    assert set(run(code).split()) == NAMES | MODULES


@pytest.mark.parametrize("before", ["pass", "torchcreator.variable"], ids=["unloaded", "loaded"])
def test_dir_lists_the_public_names_and_nothing_else(before):
    """Completion finds every public name before any of them is loaded, and no private one after."""
    listed = run(f"import torchcreator; {before}; print(*dir(torchcreator))").split()
    assert set(listed) == NAMES | MODULES | {"__version__"}
    assert len(listed) == len(set(listed))


def test_an_unknown_name_is_an_attribute_error():
    """A name that does not exist is refused as Python refuses it anywhere."""
    with pytest.raises(AttributeError, match=r"module 'torchcreator' has no attribute 'varable'"):
        _ = tc.varable
    with pytest.raises(ImportError, match="cannot import name 'varable'"):
        exec("from torchcreator import varable")
    assert not hasattr(tc, "_no_such_thing")


@pytest.mark.parametrize("name", sorted(MODULES))
def test_public_modules_say_what_is_public(name):
    """Each public module lists its public names, and they are all there."""
    module = importlib.import_module(f"torchcreator.{name}")
    assert module.__all__
    assert all(hasattr(module, public) for public in module.__all__)


@pytest.mark.parametrize("name", sorted(NAMES | MODULES))
def test_each_name_has_a_docstring(name):
    """Every public name explains itself."""
    assert (getattr(tc, name).__doc__ or "").strip()
