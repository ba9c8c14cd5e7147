"""Constraints by name, by config, and on their way into a pickle."""

from __future__ import annotations

import functools

import pytest
import torch

import torchcreator as tc
from torchcreator import constraints as c
from torchcreator._errors import VariableTypeError, VariableValueError
from torchcreator.constraints._registry import KINDS


def keep(w: torch.Tensor) -> torch.Tensor:
    return w


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        pytest.param("max_norm", c.MaxNorm(), id="snake"),
        pytest.param("MaxNorm", c.MaxNorm(), id="class-name"),
        pytest.param("NON_NEG", c.NonNeg(), id="any-case"),
        pytest.param("positive_definite", c.PositiveDefinite(), id="two-words"),
        pytest.param({"name": "clip", "max_value": 1.0}, c.Clip(max_value=1.0), id="config"),
        pytest.param(None, None, id="none"),
        pytest.param(keep, keep, id="function"),
    ],
)
def test_get(identifier, expected) -> None:
    """Names, configs, functions and None all say what they stand for."""
    assert c.get(identifier) == expected


def test_every_kind_has_a_name() -> None:
    """What is exported as a constraint can be got by name or by config."""
    kinds = {
        kind
        for name in c.__all__
        if isinstance(kind := getattr(c, name), type) and issubclass(kind, c.Projection)
    }
    assert set(KINDS.values()) == kinds - {c.Projection, c.Composed}


@pytest.mark.parametrize(
    ("identifier", "error", "message"),
    [
        pytest.param(
            "max_nrom",
            VariableValueError,
            r"for variable: head.w \(did you mean 'max_norm'\?\)",
            id="misspelt",
        ),
        pytest.param("", VariableValueError, "Unknown constraint ''", id="empty"),
        pytest.param("clip", VariableValueError, r"head.w.*\n.*\n.*Clip\(-1.0, 1.0\)", id="clip"),
        pytest.param("sparse", VariableValueError, r"needs arguments.*\n.*\n.*Sparse\(k\)", id="k"),
        pytest.param("masked", VariableValueError, r"Masked\(mask\)", id="mask"),
        pytest.param(3, VariableTypeError, "Invalid constraint 3 for variable: head.w", id="int"),
        pytest.param(c.MaxNorm, VariableTypeError, r"MaxNorm\(\), with brackets", id="class"),
        pytest.param(list, VariableTypeError, "a function f", id="another-class"),
        pytest.param({}, VariableValueError, "Unknown constraint None", id="no-name"),
        pytest.param(
            {"name": "clip", "mn_value": 1},
            VariableValueError,
            r"'mn_value'.*head.w \(did you mean 'min_value'\?\)",
            id="argument",
        ),
        pytest.param(
            {"name": "sparse"}, VariableValueError, r"needs arguments", id="missing-argument"
        ),
    ],
)
def test_get_says_what_is_wrong(identifier, error, message: str) -> None:
    """The error has what was passed, the variable's name, and what to write."""
    with pytest.raises(error, match=message):
        c.get(identifier, "head.w")


def test_functions_have_no_config() -> None:
    """Neither a function, nor one inside a composition, nor a class of the user's own."""

    class Mine(c.NonNeg):
        pass

    for constraint in (keep, c.NonNeg() & keep, Mine()):
        with pytest.raises(VariableTypeError, match="has no config"):
            c.to_config(constraint)


@pytest.mark.parametrize(
    "constraint",
    [lambda w: w, functools.partial(lambda w, a: w, a=1), c.NonNeg() & (lambda w: w)],
    ids=["lambda", "partial", "composed"],
)
def test_a_lambda_is_named_where_it_is_pickled(constraint) -> None:
    """The error names the variable and says where to define the function."""
    with pytest.raises(VariableTypeError, match=r"variable 'head.w' cannot be pickled.\n.*name"):
        c.picklable(constraint, "head.w")


def test_functions_of_modules_are_picklable() -> None:
    """What pickle finds by name passes."""
    assert c.picklable(keep, "w") is keep
    assert c.picklable(None, "w") is None
    assert c.picklable(c.NonNeg() & keep, "w") == c.NonNeg() & keep


def test_check_names_the_variable() -> None:
    """A misfit can be found before the first step."""
    c.check(keep, torch.ones(2), "head.w")
    c.check(c.Symmetric(), torch.ones(2, 2), "head.w")
    with pytest.raises(
        VariableTypeError, match=r"Symmetric\(\) cannot constrain variable 'head.w'"
    ):
        c.check(c.Symmetric(), torch.ones(2), "head.w")


def test_a_config_of_no_parts_names_the_variable() -> None:
    """A composed constraint needs parts, whoever wrote the config."""
    with pytest.raises(ValueError, match="The constraint of variable 'w' is composed of no parts"):
        tc.variable(1.0, name="w", constraint={"name": "composed"})
