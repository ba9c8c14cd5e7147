"""Where a creator fails, or the model is none that can be changed, it is what it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.build.recreate.models import snapshot, trained
from tests.build.test_creators import Tied


def last(answer):
    """A creator that changes all it is asked about, and fails at the last parameter."""

    def creator(next_creator, **kwargs):
        if kwargs["name"] == "further":  # made below
            return next_creator(**kwargs)
        if kwargs["name"] == "head.bias":
            return answer(next_creator, **kwargs)
        if kwargs["name"] == "norm.weight":  # of its own
            return nn.Parameter(torch.zeros(3))
        if kwargs["name"] == "norm.bias":  # another dtype
            return next_creator(**{**kwargs, "dtype": torch.float64, "trainable": True})
        value = kwargs["initial_value"]
        changed = {**kwargs, "initial_value": lambda: value() * 2, "trainable": False}
        made = next_creator(**{**changed, "constraint": "non_neg", "tags": {"a": 1}})
        module = kwargs["module"]
        module.register_parameter("further", nn.Parameter(torch.zeros(1)))
        module.register_module("inner", nn.Identity())
        module.register_forward_hook(lambda *_: None)
        return made

    return creator


def raises(next_creator, **kwargs):
    raise KeyError("halfway")


FAILURES = {
    "None": (lambda next_creator, **kwargs: None, tc.CreatorResultError, "returned None"),
    "no parameter": (
        lambda next_creator, **kwargs: torch.zeros(5),
        tc.CreatorResultError,
        r"returned tensor.* for 'head.bias'",
    ),
    "another shape": (
        lambda next_creator, **kwargs: next_creator(
            **{**kwargs, "shape": None, "initial_value": torch.zeros(7)}
        ),
        tc.CreatorResultError,
        "'head.bias' another shape",
    ),
    "another declared shape": (
        lambda next_creator, **kwargs: next_creator(**{**kwargs, "shape": (7,)}),
        tc.CreatorResultError,
        "'head.bias' another shape",
    ),
    "a wrong keyword": (
        lambda next_creator, **kwargs: next_creator(**{**kwargs, "trainble": True}),
        tc.VariableTypeError,
        "did you mean 'trainable'",
    ),
    "a wrong constraint": (
        lambda next_creator, **kwargs: next_creator(**{**kwargs, "constraint": "non_negg"}),
        tc.VariableValueError,
        "did you mean 'non_neg'",
    ),
    "an exception": (raises, KeyError, "halfway"),
    "an interruption": (
        lambda next_creator, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt("now")),
        KeyboardInterrupt,
        "now",
    ),
    "one argument": (lambda next_creator: None, tc.VariableTypeError, "cannot be called|passed"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failing_creator_changes_nothing(case):
    """Values, objects, memory, gradients, modules, hooks and declarations are those before."""
    answer, kind, match = FAILURES[case]
    model = trained(Tied())
    with tc.creator_scope(tc.creators.declare(tags={"before": True}, name="embed.*")):
        tc.recreate(model)
    before = snapshot(model)
    if case == "one argument":
        answer = wrongly_called(answer)
    with tc.creator_scope(last(answer)), pytest.raises(kind, match=match):
        tc.recreate(model)
    assert snapshot(model) == before


def wrongly_called(answer):
    return lambda next_creator, **kwargs: next_creator(3)


def test_a_checkpoint_that_does_not_fit_changes_nothing():
    """All that does not fit is one error, and neither parameters nor buffers are other ones."""
    model = Tied()
    state = {name: torch.full_like(value, 7) for name, value in model.state_dict().items()}
    del state["head.bias"]
    before = snapshot(model)
    load = tc.creators.from_checkpoint(state)
    with tc.creator_scope(load), pytest.raises(tc.CheckpointError, match=r"head\.bias"):
        tc.recreate(model)
    assert snapshot(model) == before


def test_a_second_checkpoint_that_does_not_fit_undoes_the_first():
    """The buffers that the first one has read are put back."""
    model = Tied()
    state = {name: torch.full_like(value, 7) for name, value in model.state_dict().items()}
    before = snapshot(model)
    bad = tc.creators.from_checkpoint({"nothing": torch.zeros(1)})
    good = tc.creators.from_checkpoint(state)
    with tc.creator_scope(bad, good), pytest.raises(tc.CheckpointError, match="nothing"):
        tc.recreate(model)
    assert snapshot(model) == before


def test_a_deferred_model_is_told_what_to_do():
    """Its creators are asked when it is materialised; a part of one, too."""
    model = nn.Sequential(tc.defer(nn.Linear, 2, 2))
    with (
        tc.creator_scope(tc.creators.freeze()),
        pytest.raises(tc.BuildError, match=r"deferred, in '0'.*\n.*\n.*materialize"),
    ):
        tc.recreate(model)


@pytest.mark.parametrize("what", ["a class", "parameters", "None"])
def test_what_is_no_model(what):
    """It is said what is wanted, in a scope and outside."""
    wrong = {"a class": nn.Linear, "parameters": [nn.Linear(2, 2).weight], "None": None}[what]
    with pytest.raises(tc.VariableTypeError, match=r"recreate\(\) got"):
        tc.recreate(wrong)


def test_a_copy_is_another_model():
    """What is done to a copy is not done to the original."""
    model = Tied()
    before = snapshot(model)
    with tc.creator_scope(tc.creators.cast(torch.float64), tc.creators.freeze()):
        tc.recreate(copy.deepcopy(model))
    assert snapshot(model) == before
