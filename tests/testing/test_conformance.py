"""The check for creators: it passes what conforms, and names each way not to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator._chain.open_scopes import current
from torchcreator.testing import FakeCreator, RecordingCreator, assert_creator_conforms


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


class Stateful:
    """A creator that is an object."""

    def __call__(self, next_creator, **kwargs):
        kwargs["tags"] = {**(kwargs["tags"] or {}), "seen": True}
        return next_creator(**kwargs)


@pytest.mark.parametrize(
    "creator",
    [
        passing,
        Stateful(),
        FakeCreator(),
        RecordingCreator(),
        tc.creators.cast(torch.bfloat16),
        tc.creators.freeze(),
        lambda next_creator, /, **kwargs: next_creator(**kwargs),
    ],
    ids=["function", "object", "fake", "recording", "cast", "freeze", "lambda"],
)
def test_creators_that_conform_pass(creator):
    """A function, an object, our own: what keeps to the rules passes, and no scope stays open."""
    before = current.get()
    assert_creator_conforms(creator)
    assert current.get() is before


def forgetful(next_creator, **kwargs):
    next_creator(**kwargs)


def narrow(next_creator, name, shape):
    return next_creator(name=name, shape=shape)


def positional(next_creator, **kwargs):
    return next_creator(kwargs)


def naming(next_creator, **kwargs):
    return next_creator(**{**kwargs, "name": kwargs["name"].upper()})


def measuring(next_creator, **kwargs):
    kwargs["tags"] = {"size": len(kwargs["shape"])}
    return next_creator(**kwargs)


def eager(next_creator, **kwargs):
    if callable(kwargs["initial_value"]):
        kwargs["initial_value"] = kwargs["initial_value"]()
    return next_creator(**kwargs)


def tagging(next_creator, **kwargs):
    if kwargs["tags"] is not None:
        kwargs["tags"]["seen"] = True
    return next_creator(**kwargs)


def spoiling(next_creator, **kwargs):
    if isinstance(kwargs["initial_value"], torch.Tensor):
        kwargs["initial_value"].zero_()
    return next_creator(**kwargs)


def flattening(next_creator, **kwargs):
    if isinstance(kwargs["shape"], list):
        kwargs["shape"].append(1)
    return next_creator(**kwargs)


def halving(next_creator, **kwargs):
    made = next_creator(**kwargs)
    if kwargs["module"] is None or made.dim() == 0:
        return made
    return nn.Parameter(made.detach()[:1])


def training(next_creator, **kwargs):
    return next_creator(**{**kwargs, "trainable": True})


def leaving(next_creator, **kwargs):
    tc.creator_scope(passing).__enter__()
    return next_creator(**kwargs)


@pytest.mark.parametrize(
    ("creator", "complaint"),
    [
        (forgetful, "a tensor as value: CreatorResultError: Creator forgetful returned None"),
        (forgetful, "a stock module: CreatorResultError: Creator forgetful returned None"),
        (narrow, "called with all keywords and one that may be added later: .* unexpected"),
        (positional, "asked for a variable without a name: TypeError: .* positional argument"),
        (naming, "asked for a variable without a name: AttributeError: 'NoneType' object"),
        (measuring, "asked for the parameters of a lazy module: TypeError: .*'NoneType'"),
        (eager, "a function as value: it calls initial_value itself"),
        (tagging, "asked for a variable with tags: it changes the caller's tags"),
        (spoiling, "a tensor as value: it changes the caller's tensor"),
        (flattening, "an initialiser of torch.nn.init: it changes the caller's shape"),
        (halving, r"a stock module: shapes \(2, 3\) and \(2,\) become \[\(1, 3\), \(1,\)\]"),
        (training, "asked for an integer variable, .*: VariableTypeError"),
        (leaving, "a stock module: .*(proper nesting|leaves a scope open)"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.torchcreator(allow_open_scopes=True)  # `leaving` does
def test_each_fault_is_named(creator, complaint):
    """The message says in which situation a creator fails, how, and what a creator looks like."""
    before = current.get()
    message = rf"(?s)Creator {creator.__name__} does not conform\.\n.*{complaint}.*return next_cr"
    with pytest.raises(AssertionError, match=message):
        assert_creator_conforms(creator)
    assert current.get() is before


def test_a_creator_may_decline():
    """A creator made for some variables only says by which error it refuses the others."""

    def for_modules(next_creator, **kwargs):
        if kwargs["module"] is None:
            message = "modules only"
            raise LookupError(message)
        return next_creator(**kwargs)

    assert_creator_conforms(for_modules, refuses=LookupError)
    assert_creator_conforms(tc.creators.forbid(), refuses=tc.TorchCreatorError)
    with pytest.raises(AssertionError, match="LookupError: modules only"):
        assert_creator_conforms(for_modules, refuses=KeyError)


def test_what_cannot_be_called_is_no_creator():
    """It is told from a creator that does not conform: it is an error of the test."""
    with pytest.raises(TypeError, match=r"assert_creator_conforms got 3\."):
        assert_creator_conforms(3)


def test_a_builtin_is_judged_by_what_it_does():
    """Python does not know the signature of every builtin, so it is called to see."""
    with pytest.raises(AssertionError, match=r"(?s)Creator max does not .*number as value: TypeE"):
        assert_creator_conforms(max)
