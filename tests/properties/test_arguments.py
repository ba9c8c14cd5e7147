"""Whatever is passed for whichever argument: a right result, or an error that says what was wrong.

And after an error nothing is half done: no name is given away, no scope left open, no declaration
kept, and no module changed.
"""

from __future__ import annotations

import copy
import pickle
import traceback
import warnings
from dataclasses import MISSING, fields
from operator import length_hint

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import torchcreator as tc
from tests.properties.absurd import CALLABLES, VALUES, BoomError, absurd
from torchcreator import _root, _table, constraints, creators
from torchcreator._types import VariableKwargs

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
NAME = "a_name_to_be_found"


@pytest.fixture(autouse=True)
def without_warnings():
    """Torch warns of sparse, nested and complex tensors, and of NumPy's read-only arrays."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def of(label):
    return absurd(label)


@st.composite
def keywords(draw, most=3):
    """Draw keywords of `variable`: some valid ones, and up to ``most`` that may be anything."""
    chosen = draw(st.fixed_dictionaries({}, optional=VALID))
    wrong = draw(st.dictionaries(st.sampled_from(sorted(VALID)), LABELS, max_size=most))
    return chosen, wrong


def state():
    """Return everything that a variable leaves behind besides itself."""
    counters = _root.process_names._numbers
    given = {name: length_hint(numbers) for name, numbers in counters.items()}
    return _root.current.get(), given, len(_table._live)


def is_the_callers_own(error):
    """Return whether an error came out of an initial value that is a function, or out of a module.

    These pass as they are: ``nn.Linear(2, 3, dtype=torch.int64)`` raises what torch says of it.
    """
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame.name for frame in frames if "/torchcreator/" in frame.filename]
    called = bool(ours) and ours[-1] in ("_called", "__call__")
    return called or any(frame.name == "reset_parameters" for frame in frames)


def check_message(error, name):
    """An error of ours has three parts, is not endless, and names the variable."""
    text = str(error)
    assert len([part for part in error.args if part]) == 3, text
    assert len(text) < 2000
    assert name in text


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
    except (BoomError, RecursionError, TypeError, NotImplementedError) as error:
        if not is_the_callers_own(error):
            raise
    else:
        check_made(made, chosen)
        return
    assert state() == before


@settings(max_examples=300, deadline=None)
@given(keywords())
def test_any_keywords_of_a_variable(given):
    """`variable` makes what was asked for, or says what was wrong and leaves nothing behind."""
    valid, wrong = given
    chosen = {"initial_value": 1.0, **valid, **{key: of(label) for key, label in wrong.items()}}
    attempt(lambda: tc.variable(name=NAME, **chosen), chosen)


@settings(max_examples=150, deadline=None)
@given(keywords())
def test_any_keywords_that_a_creator_passes_on(given):
    """What a creator passes on is held to the same: `default_creator` sees whatever is wrong."""
    valid, wrong = given
    chosen = {**valid, **{key: of(label) for key, label in wrong.items()}}

    def meddle(next_creator, **kwargs):
        return next_creator(**{**kwargs, **chosen})

    def make():
        with tc.creator_scope(meddle):
            return tc.variable(1.0, name=NAME)

    attempt(make, chosen)


@settings(max_examples=150, deadline=None)
@given(keywords(most=2))
def test_any_keywords_that_a_creator_passes_on_for_a_module(given):
    """A stock module is constructed, or an error names its parameter and the scope is closed."""
    valid, wrong = given
    chosen = {**valid, **{key: of(label) for key, label in wrong.items()}}
    chosen.pop("module", None)  # which is how the default creator knows the module's parameter

    def meddle(next_creator, **kwargs):
        return next_creator(**{**kwargs, **chosen})

    held = []  # a module's parameter has its declaration from the module

    def make():
        with tc.creator_scope(meddle):
            held.append(nn.Linear(3, 2, bias=False))
        return held[0].weight

    attempt(make, {}, "weight")


@pytest.mark.parametrize("label", sorted(VALUES))
def test_any_name(label):
    """A name is text, or an error shows what was passed for one."""
    attempt(lambda: tc.variable(1.0, name=of(label)), {}, name="")


@pytest.mark.parametrize("label", sorted(VALUES))
def test_any_result_of_a_creator(label):
    """A module takes a parameter from a creator, or refuses what it got and keeps nothing."""
    before = state()
    layer = nn.Linear(3, 2)
    held = dict(layer._parameters)

    def answer(next_creator, **kwargs):
        return of(label)

    with tc.creator_scope(answer):
        try:
            layer.register_parameter("added", nn.Parameter(torch.ones(2)))
        except tc.TorchCreatorError as error:
            check_message(error, "added")
            assert dict(layer._parameters) == held
        else:
            assert isinstance(layer.added, nn.Parameter)
            del layer.added
    assert state()[:2] == before[:2]


@pytest.mark.parametrize("word", ["trainabel", "__class__", "self", "\ud800", "shape "])
def test_any_other_keyword(word):
    """A keyword that no variable has is refused by its name."""
    attempt(lambda: tc.variable(1.0, name=NAME, **{word: 1}), {})
    assert word not in VariableKwargs.__annotations__


CONSTRAINTS = [
    (kind, field.name)
    for kind in (getattr(constraints, word) for word in constraints.__all__)
    if isinstance(kind, type) and hasattr(kind, "__dataclass_fields__")
    for field in fields(kind)
]


@pytest.mark.parametrize(
    ("kind", "argument"), CONSTRAINTS, ids=lambda part: getattr(part, "__name__", part)
)
def test_any_argument_of_a_constraint(kind, argument):
    """A constraint is refused when it is made, or is a value, and projects finite to finite."""
    others = [field for field in fields(kind) if field.name != argument]
    needed = {field.name: 1 for field in others if field.default is MISSING}
    for label in VALUES:
        try:
            made = kind(**{**needed, argument: of(label)})
        except tc.TorchCreatorError as error:
            check_message(error, "")
            continue
        assert isinstance(hash(made), int)
        assert repr(made)
        assert pickle.loads(pickle.dumps(made)) == made == copy.deepcopy(made)
        if label != "np empty":  # which a list of lists cannot say
            assert constraints.from_config(constraints.to_config(made)) == made
        try:
            projected = made(torch.randn(3, 3))
        except tc.TorchCreatorError as error:
            check_message(error, "w")
        else:
            assert projected.isfinite().all()


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


def weight():
    return tc.variable([1.0, 2.0], name="weight_to_write", constraint="non_neg")


CALLS = {
    "creator_scope": tc.creator_scope,
    "creator_scope(modules)": lambda value: tc.creator_scope(passing, modules=value),
    "spec_of": tc.spec_of,
    "named_specs": lambda value: list(tc.named_specs(value)),
    "param_groups": tc.param_groups,
    "assign": lambda value: tc.assign(value, 1.0),
    "assign(value)": lambda value: tc.assign(weight(), value),
    "assign_add(value)": lambda value: tc.assign_add(weight(), value),
    "assign_sub(value)": lambda value: tc.assign_sub(weight(), value),
    "read_value": tc.read_value,
    "apply_constraints": tc.apply_constraints,
    "build(device)": lambda value: tc.build(nn.Linear, 2, 3, device=value),
    "build(seed)": lambda value: tc.build(nn.Linear, 2, 3, seed=value),
    "defer(device)": lambda value: tc.defer(nn.Linear, 2, 3, device=value),
    "defer(seed)": lambda value: tc.defer(nn.Linear, 2, 3, seed=value),
    "materialize": tc.materialize,
    "materialize(device)": lambda value: tc.materialize(tc.defer(nn.Linear, 2, 3), device=value),
    "constraints.get": constraints.get,
    "constraints.to_config": constraints.to_config,
    "VariableAggregation.of": AGG.of,
    "VariableSynchronization.of": SYNC.of,
    "sharded(placements)": lambda value: creators.sharded(None, value),
    "from_checkpoint": creators.from_checkpoint,
    "record": creators.record,
}


@pytest.mark.parametrize("call", CALLS)
def test_any_argument_of_a_function(call):
    """Every other public function answers, or refuses in words of ours."""
    before = state()[0]
    for label in VALUES:
        try:
            CALLS[call](of(label))
        except tc.TorchCreatorError as error:
            check_message(error, "")
        assert state()[0] is before


CREATORS = {
    "on": creators.on,
    "cast": creators.cast,
    "initialize": creators.initialize,
    "constrain": creators.constrain,
    "aggregate": creators.aggregate,
    "aggregate(group)": lambda value: creators.aggregate("sum", group=value),
    "mirrored": creators.mirrored,
    "optimizer": lambda value: creators.optimizer(lr=value),
    "where(creator)": lambda value: creators.where(value, name="*"),
    "where(name)": lambda value: creators.where(creators.freeze(), name=value),
    "where(module)": lambda value: creators.where(creators.freeze(), module=value),
    "where(when)": lambda value: creators.where(creators.freeze(), when=value),
    "progress": creators.progress,
    "forbid": creators.forbid,
    "creator_scope": lambda value: value,
}


@pytest.mark.parametrize("make", CREATORS)
def test_any_argument_of_a_ready_made_creator(make):
    """A ready-made creator refuses its argument, or the variable does, or a parameter comes out."""
    for label in sorted(set(VALUES) - set(CALLABLES)):
        before = state()[0]
        try:
            with tc.creator_scope(CREATORS[make](of(label))):
                made = tc.variable(1.0, name=NAME)
        except tc.TorchCreatorError as error:
            check_message(error, "")
        except TypeError:
            # A constraint and a class are callables too: they were called as a creator is.
            assert callable(of(label))
        else:
            assert isinstance(made, nn.Parameter)
        assert state()[0] is before
