"""What people pass by mistake for an argument of a variable: it serves, or an error says why.

And after an error nothing is half done: no name is given away, no scope left open, no declaration
kept, and no module changed.
"""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import torchcreator as tc
from tests.properties.mistakes import VALUES, BoomError, mistake
from tests.properties.outcomes import NAME, check_message, is_the_callers_own, state
from torchcreator import constraints

# Torch warns of complex tensors, and of NumPy's read-only arrays.
pytestmark = pytest.mark.filterwarnings("ignore")

SYNC, AGG = tc.VariableSynchronization, tc.VariableAggregation
LABELS = st.sampled_from(sorted(VALUES))
VALID = {
    "initial_value": st.sampled_from([1.0, [1.0, 2.0], torch.ones(2, 3), nn.init.ones_]),
    "trainable": st.sampled_from([None, True, False]),
    "validate_shape": st.booleans(),
    "caching_device": st.sampled_from([None, "cpu"]),
    "dtype": st.sampled_from([None, torch.float32, torch.float64, torch.int64, torch.complex64]),
    "constraint": st.sampled_from([None, "non_neg", "max_norm", constraints.Orthogonal(), abs]),
    "synchronization": st.sampled_from([None, "none", "on_read", SYNC.ON_WRITE]),
    "aggregation": st.sampled_from([None, "sum", "mean", AGG.ONLY_FIRST_REPLICA]),
    "shape": st.sampled_from([None, (), (2,), [2, 3], torch.Size([2, 3]), (0, 3)]),
    "device": st.sampled_from([None, "cpu", "meta", torch.device("cpu")]),
    "process_group": st.none(),
    "tags": st.sampled_from([None, {}, {"decay": False}]),
    "module": st.sampled_from([None, nn.ReLU()]),
}


@st.composite
def keywords(draw, most=3):
    """Draw keywords of `variable`: some valid ones, and up to ``most`` that may be anything."""
    chosen = draw(st.fixed_dictionaries({}, optional=VALID))
    wrong = draw(st.dictionaries(st.sampled_from(sorted(VALID)), LABELS, max_size=most))
    return chosen, wrong


def check_made(made, chosen):
    """What was made is a parameter, its spec is true, and nobody else holds its memory."""
    assert isinstance(made, nn.Parameter)
    spec = tc.spec_of(made)
    assert spec is not None
    assert spec.trainable is made.requires_grad
    assert spec.dtype == made.dtype
    if spec.shape is not None:
        assert spec.shape == made.shape
    value = chosen.get("initial_value")
    if type(value) is torch.Tensor and value.layout is torch.strided and not value.is_meta:
        assert made.is_meta or made.data_ptr() != value.data_ptr() or not value.numel()
    pickle.dumps(spec.shape)
    repr(spec.name)


def attempt(make, chosen, name=NAME):
    before = state()
    try:
        made = make()
    except tc.TorchCreatorError as error:
        check_message(error, name)
    except (BoomError, TypeError, NotImplementedError) as error:
        if not is_the_callers_own(error):
            raise
    else:
        check_made(made, chosen)
        return
    assert state() == before


@settings(max_examples=120)
@given(keywords())
def test_any_keywords_of_a_variable(given):
    """`variable` makes what was asked for, or says what was wrong and leaves nothing behind."""
    valid, wrong = given
    chosen = {
        "initial_value": 1.0,
        **valid,
        **{key: mistake(label) for key, label in wrong.items()},
    }
    attempt(lambda: tc.variable(name=NAME, **chosen), chosen)


@settings(max_examples=60)
@given(keywords())
def test_any_keywords_that_a_creator_passes_on(given):
    """What a creator passes on is held to the same: `default_creator` sees whatever is wrong."""
    valid, wrong = given
    chosen = {**valid, **{key: mistake(label) for key, label in wrong.items()}}

    def meddle(next_creator, **kwargs):
        return next_creator(**{**kwargs, **chosen})

    def make():
        with tc.creator_scope(meddle):
            return tc.variable(1.0, name=NAME)

    attempt(make, chosen)


@settings(max_examples=60)
@given(keywords(most=2))
def test_any_keywords_that_a_creator_passes_on_for_a_module(given):
    """A stock module is constructed, or an error names its parameter and the scope is closed."""
    valid, wrong = given
    chosen = {**valid, **{key: mistake(label) for key, label in wrong.items()}}

    def meddle(next_creator, **kwargs):
        return next_creator(**{**kwargs, **chosen})

    held = []  # a module's parameter has its declaration from the module

    def make():
        with tc.creator_scope(meddle):
            held.append(nn.Linear(3, 2, bias=False))
        return held[0].weight

    attempt(make, {}, "weight")


def test_any_name():
    """A name is text, or an error shows what was passed for one."""
    for label in VALUES:
        attempt(lambda label=label: tc.variable(1.0, name=mistake(label)), {}, name="")


def test_any_result_of_a_creator():
    """A module takes a parameter from a creator, or refuses what it got and keeps nothing."""
    for label in VALUES:
        before = state()
        layer = nn.Linear(3, 2)
        held = dict(layer._parameters)
        with tc.creator_scope(lambda next_creator, label=label, **kwargs: mistake(label)):
            try:
                layer.register_parameter("added", nn.Parameter(torch.ones(2)))
            except tc.TorchCreatorError as error:
                check_message(error, "added")
                assert dict(layer._parameters) == held
            else:
                assert isinstance(layer.added, nn.Parameter)
                del layer.added
        assert state()[:2] == before[:2]
