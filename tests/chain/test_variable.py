"""`variable` and `default_creator`: what each keyword does to the parameter and to its spec."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import _errors

SYNC, AGG = tc.VariableSynchronization, tc.VariableAggregation


def test_a_variable_is_a_plain_parameter():
    """The result is `torch.nn.Parameter` itself, a leaf, on its own memory."""
    p = tc.variable([1.0, 2.0])
    assert type(p) is nn.Parameter
    assert (p.is_leaf, p.requires_grad, p.grad) == (True, True, None)


def test_the_spec_says_what_was_declared():
    """Every keyword that describes the variable is in its spec, resolved."""
    tags = {"decay": False}
    p = tc.variable(
        [1.0, 2.0],
        trainable=False,
        caching_device="cpu",
        name="all_keywords_at_once",
        dtype=torch.float64,
        constraint="max_norm",
        synchronization="on_read",
        aggregation="sum",
        shape=[2],
        device="cpu",
        tags=tags,
    )
    assert tc.spec_of(p) == tc.VariableSpec(
        name="all_keywords_at_once",
        shape=torch.Size([2]),
        dtype=torch.float64,
        trainable=False,
        constraint=tc.constraints.MaxNorm(),
        synchronization=SYNC.ON_READ,
        aggregation=AGG.SUM,
        caching_device=torch.device("cpu"),
        process_group=None,
        tags={"decay": False},
        validate_shape=True,
    )


def test_the_spec_of_a_bare_variable_holds_the_defaults():
    """What was not said is in the spec as the documented default."""
    spec = tc.spec_of(tc.variable(1.0, module=nn.Module()))
    assert spec == tc.VariableSpec(
        "Variable", torch.Size([]), torch.float32, True, None, SYNC.AUTO, AGG.NONE, None, None, {},
        True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, True),
        ({"trainable": None}, True),
        ({"trainable": True}, True),
        ({"trainable": False}, False),
        ({"synchronization": "on_read"}, False),
        ({"synchronization": "on_read", "trainable": True}, True),
        ({"synchronization": "none"}, True),
        ({"synchronization": "on_write", "trainable": False}, False),
        ({"dtype": torch.int64, "initial_value": 1}, False),
        ({"dtype": torch.bool, "initial_value": True}, False),
        ({"dtype": torch.complex64}, True),
        ({"dtype": torch.float8_e4m3fn}, True),
        ({"initial_value": None, "validate_shape": False}, True),
        ({"initial_value": None, "validate_shape": False, "dtype": torch.int64}, False),
    ],
    ids=str,
)
def test_trainable_becomes_requires_grad(keywords, expected):
    """None means True, but False for ON_READ and for dtypes without a gradient."""
    p = tc.variable(**{"initial_value": 1.0, **keywords})
    assert p.requires_grad is expected
    assert tc.spec_of(p).trainable is expected


def test_a_constraint_is_not_applied_at_creation():
    """The initial value is the caller's, even where the constraint does not allow it."""
    p = tc.variable([-1.0], constraint="non_neg")
    assert p.tolist() == [-1.0]
    tc.apply_constraints([p])
    assert p.tolist() == [0.0]


def test_any_function_of_a_tensor_is_a_constraint():
    """A constraint that is a plain function is kept as it is."""

    def clip(w):
        return w.clamp(-1, 1)

    assert tc.spec_of(tc.variable(1.0, constraint=clip)).constraint is clip


def test_the_owner_changes_nothing_but_the_name():
    """``module`` is for the creators: the variable is neither registered nor counted."""
    owner = nn.Module()
    p = tc.variable(1.0, module=owner, name="gain")
    assert tc.spec_of(p).name == "gain"
    assert list(owner.parameters()) == []


def test_tags_are_the_variables_own():
    """What the caller does to its mapping afterwards does not reach the spec."""
    tags = {"decay": False}
    p = tc.variable(1.0, tags=tags)
    tags["decay"] = True
    assert tc.spec_of(p).tags == {"decay": False}


def test_none_stands_for_the_default_policies():
    """``aggregation=None`` and ``synchronization=None`` are NONE and AUTO, after the creators."""
    seen = []

    def creator(next_creator, **kwargs):
        seen.append((kwargs["synchronization"], kwargs["aggregation"]))
        return next_creator(**kwargs)

    with tc.creator_scope(creator):
        spec = tc.spec_of(tc.variable(1.0, synchronization=None, aggregation=None))
    assert seen == [(None, None)]
    assert (spec.synchronization, spec.aggregation) == (SYNC.AUTO, AGG.NONE)


def test_registering_a_variable_keeps_its_spec():
    """A variable assigned to a module is found there with the spec it was made with."""
    layer = nn.Module()
    p = layer.gain = tc.variable([1.0], name="w", constraint="non_neg")
    assert layer.gain is p
    ((name, found, spec),) = tc.named_specs(layer)
    assert (name, found is p, spec) == ("gain", True, tc.spec_of(p))


def test_a_plain_parameter_has_no_spec():
    """Only what a creator made was declared."""
    assert tc.spec_of(nn.Parameter(torch.zeros(1))) is None
    assert list(tc.named_specs(nn.Linear(1, 1))) == []


# default_creator --------------------------------------------------------------------------------


def keywords_of(function):
    return {
        word: parameter.default
        for word, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def test_the_default_creator_has_the_keywords_and_defaults_of_variable():
    """What a creator drops takes the default that `variable` documents."""
    assert keywords_of(tc.default_creator) == keywords_of(tc.variable)
    assert set(keywords_of(tc.variable)) == set(tc.VariableKwargs.__annotations__)


@pytest.mark.parametrize(
    "keywords",
    [
        {"initial_value": 1.0},
        {"initial_value": torch.ones(2), "shape": (2,), "synchronization": "on_read"},
        {"initial_value": nn.init.ones_, "shape": (2,), "aggregation": "MEAN"},
        {"initial_value": lambda: [1], "trainable": False, "tags": {"a": 1}},
        {"validate_shape": False, "dtype": torch.float64},
    ],
    ids=["bare", "tensor", "initialiser", "function", "unknown shape"],
)
def test_the_default_creator_makes_what_variable_makes(keywords):
    """Called directly, it takes what a caller may write, strings included."""
    owner = nn.Module()
    direct = tc.default_creator(**keywords, module=owner)
    through = tc.variable(**keywords, module=owner)
    assert (type(direct), direct.requires_grad) == (type(through), through.requires_grad)
    assert tc.spec_of(direct) == tc.spec_of(through)
    if keywords.get("validate_shape", True):
        assert torch.equal(direct, through)


def test_keywords_only():
    """A value is all that may be positional, and for creators nothing is."""
    with pytest.raises(TypeError, match="positional argument"):
        tc.variable(1.0, True)
    with pytest.raises(TypeError, match="positional argument"):
        tc.default_creator(1.0)
    with (
        tc.creator_scope(lambda next_creator, **kwargs: next_creator(1.0)),
        pytest.raises(TypeError, match="positional argument"),
    ):
        tc.variable(1.0)


# Errors leave nothing behind ---------------------------------------------------------------------

BAD = {
    "initial_value": {},
    "shape": (3,),
    "dtype": "float32",
    "device": "nowhere",
    "trainable": 1,
    "constraint": 3,
    "name": 3,
    "caching_device": "nowhere",
    "synchronization": "X",
    "aggregation": "X",
    "process_group": 3,
    "tags": 3,
    "trainble": True,
}


@pytest.mark.parametrize("word", BAD)
def test_a_bad_keyword_is_an_error_without_a_scope_and_behind_one(word):
    """The same error comes from a bare call, through a creator, and from a creator's change."""
    bad = {"initial_value": [1.0, 2.0], word: BAD[word]}

    def passing(next_creator, **kwargs):
        return next_creator(**kwargs)

    def spoils(next_creator, **kwargs):
        return next_creator(**{**kwargs, **bad})

    messages = set()
    for make, scope in [
        (lambda: tc.variable(**bad), passing),
        (lambda: tc.default_creator(**bad), passing),
        (lambda: tc.variable(0.0), spoils),
    ]:
        with (
            tc.creator_scope(scope),
            pytest.raises(_errors.TorchCreatorError, match=r"\n") as caught,
        ):
            make()
        messages.add(str(caught.value))
    with pytest.raises(_errors.TorchCreatorError, match=r"\n") as caught:
        tc.variable(**bad)
    assert messages == {str(caught.value)}


@pytest.mark.parametrize("word", BAD)
def test_a_bad_keyword_leaves_nothing_half_done(word):
    """After an error no name is taken, and no parameter stands in the module."""

    def spoils(next_creator, **kwargs):
        bad = {"initial_value": torch.zeros(2, 2), "name": kwargs["name"], word: BAD[word]}
        return next_creator(**{**kwargs, **bad})

    layer = nn.Module()
    with tc.creator_scope(spoils):
        with pytest.raises(_errors.TorchCreatorError, match=r"\n"):
            layer.weight = nn.Parameter(torch.zeros(2, 2))
        with pytest.raises(_errors.TorchCreatorError, match=r"\n"):
            tc.variable(1.0, name="w")
        assert list(layer.parameters()) == []
        good = tc.creator_scope(
            lambda _, **kwargs: tc.default_creator(initial_value=1.0, name=kwargs["name"])
        )
        with good:
            assert tc.spec_of(tc.variable(1.0, name="w")).name == "w"
