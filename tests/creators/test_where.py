"""`where` lets a creator see the variables that meet every condition."""

from __future__ import annotations

import re

import pytest
from torch import nn

import torchcreator as tc
from torchcreator import build
from torchcreator.creators import freeze, where


def model():
    return nn.ModuleDict({"encoder": nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))})


def frozen(make, **conditions):
    with tc.creator_scope(where(freeze(), **conditions)):
        made = make()
    return [name for name, parameter in made.named_parameters() if not parameter.requires_grad]


BIASES = ["encoder.0.bias", "encoder.1.bias"]
EVERY = ["encoder.0.weight", "encoder.0.bias", "encoder.1.weight", "encoder.1.bias"]
CASES = {
    "a glob": ({"name": "*.bias"}, ["encoder.0.bias", "encoder.1.bias"]),
    "a type": ({"module": nn.LayerNorm}, ["encoder.1.weight", "encoder.1.bias"]),
    "a predicate": ({"when": lambda shape, **_: len(shape) == 2}, ["encoder.0.weight"]),
    "all of them": ({"name": "*.bias", "module": nn.Linear}, ["encoder.0.bias"]),
    "a pattern": ({"name": re.compile("bi.s$")}, ["encoder.0.bias", "encoder.1.bias"]),
    "several types": (
        {"module": (nn.LayerNorm, nn.Embedding), "name": "*weight"},
        ["encoder.1.weight"],
    ),
    "several names": ({"name": ("*.bias", "*.wei*")}, EVERY),
    "a list of names": ({"name": ["*.bias", re.compile("^no")], "strict": False}, BIASES),
    "a list of types": ({"module": [nn.Linear, nn.LayerNorm]}, EVERY),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("how", ["scope", "build"])
def test_the_conditions_choose(case, how):
    """Globs, patterns, types and predicates choose alike in a scope and in a build."""
    conditions, expected = CASES[case]
    assert frozen(model if how == "scope" else lambda: build(model), **conditions) == expected


def test_a_full_name_chooses_in_a_build():
    """In a build a glob may name the path."""
    assert frozen(lambda: build(model), name="encoder.0.*") == [
        "encoder.0.weight",
        "encoder.0.bias",
    ]


def test_a_name_is_matched_as_a_whole():
    """A glob has to match all of a name, in either form."""
    assert frozen(lambda: build(model), name="bias", strict=False) == []
    assert frozen(model, name="bia", strict=False) == []


def test_a_tie_is_meant_by_any_of_its_names():
    """A tied parameter is chosen by each name it has."""

    def tied():
        made = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
        made["b"].weight = made["a"].weight
        return made

    assert frozen(lambda: build(tied), name="b.weight") == ["a.weight"]


def test_an_unnamed_variable_is_called_variable():
    """A variable without a name is matched under the name it will have."""
    with tc.creator_scope(where(freeze(), name="Variable")):
        assert not tc.variable(1.0).requires_grad
        assert tc.variable(1.0, name="gain").requires_grad


def test_the_name_of_a_creator_says_what_it_does():
    """The scope's repr, and so an error, shows the call."""
    with (scope := tc.creator_scope(where(freeze(), name="*.bias"), freeze(module=nn.Linear))):
        shown = repr(scope)
    assert shown == "creator_scope(where(freeze(), name='*.bias'), freeze(module=Linear))"


@pytest.mark.parametrize(
    ("creator", "conditions", "message"),
    [
        ("freeze", {"name": "*"}, "where got 'freeze' as its creator"),
        (freeze(), {}, "where got no condition"),
        (freeze(), {"name": 3}, "where got name=3"),
        (freeze(), {"module": "Linear"}, "where got module='Linear'"),
        (freeze(), {"module": (nn.Linear, "Conv2d")}, "where got module='Conv2d'"),
        (freeze(), {"when": True}, "where got when=True"),
        (freeze(), {"name": []}, r"where got name=\[\]"),
        (freeze(), {"name": "*", "strict": 1}, "where got strict=1"),
        (freeze(), {"nme": "*"}, r"unexpected keyword 'nme' \(did you mean 'name'\?\)"),
    ],
    ids=["creator", "nothing", "name", "module", "modules", "when", "empty", "strict", "unknown"],
)
def test_wrong_conditions_are_refused(creator, conditions, message):
    """A condition of the wrong kind is an error where it is written."""
    with pytest.raises(tc.TorchCreatorError, match=message) as caught:
        where(creator, **conditions)
    assert len(caught.value.args) == 3
    assert all(caught.value.args)
