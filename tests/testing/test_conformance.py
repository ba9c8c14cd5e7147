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


def doubling(next_creator, **kwargs):
    """Sets a value, and then computes on it."""
    if kwargs["shape"] is None or kwargs["dtype"] not in (None, torch.float32):
        return next_creator(**kwargs)
    made = next_creator(**{**kwargs, "initial_value": torch.ones(tuple(kwargs["shape"]))})
    return made if kwargs["module"] is None else type(made)(made.detach() * 2)


CONFORMING = {
    "function": passing,
    "object": Stateful(),
    "FakeCreator": FakeCreator(),
    "recording": RecordingCreator(),
    "cast": tc.creators.cast(torch.bfloat16),
    "freeze": tc.creators.freeze(),
    "meta": tc.creators.meta(),
    "fake": tc.creators.fake(),
    "initialize": tc.creators.initialize(nn.init.ones_),
    "a value": doubling,
    "lambda": lambda next_creator, /, **kwargs: next_creator(**kwargs),
}


@pytest.mark.parametrize("creator", CONFORMING.values(), ids=CONFORMING)
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


def halving_garbage(next_creator, **kwargs):
    return nn.Parameter(next_creator(**kwargs).detach() * 0.5)


def halving_in_place(next_creator, **kwargs):
    made = next_creator(**kwargs)
    if kwargs["shape"] is not None and made.is_floating_point():
        with torch.no_grad():
            made.mul_(0.5)
    return made


def rounding_garbage(next_creator, **kwargs):
    made = next_creator(**kwargs)
    if kwargs["module"] is None or kwargs["shape"] is None:
        return made
    return nn.Parameter((made.detach() * 10).to(torch.int8), requires_grad=False)


_known = {}


def sharing(next_creator, **kwargs):
    key = kwargs["name"], tuple(kwargs["shape"] or ())
    if key not in _known:
        _known[key] = next_creator(**kwargs)
    return _known[key]


def plain(next_creator, **kwargs):
    made = next_creator(**kwargs)
    return nn.Parameter(made.data, made.requires_grad) if kwargs["shape"] is not None else made


def without_stars(next_creator, kwargs):
    return next_creator(**kwargs)


def torchs_word(next_creator, **kwargs):
    return next_creator(**kwargs, requires_grad=False)


@pytest.mark.parametrize(
    ("creator", "complaint"),
    [
        (halving_garbage, "its module initialises later: it computes on what next_creator re"),
        (rounding_garbage, "its module initialises later: it computes on what next_creator re"),
        (halving_in_place, "its module initialises later: it writes to what next_creator ret"),
        (sharing, "two layers in a plain scope: it ties layers that have nothing to do"),
        (plain, "a class of its own: a subclass of Parameter becomes a Parameter"),
        (without_stars, "called with all keywords and one that may be added later"),
        (torchs_word, r"VariableTypeError: .*'requires_grad' \(did you mean 'trainable'\?\)"),
        (forgetful, "a tensor as value: CreatorResultError: Creator forgetful returned None"),
        (forgetful, "a stock module: CreatorResultError: Creator forgetful returned None"),
        (narrow, "called with all keywords and one that may be added later: .* unexpected"),
        (positional, r"asked for a variable without a name: \w*TypeError: .* positional arg"),
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
    words = r"(?s)Creator max does not .*number as value: \w*TypeE"
    with pytest.raises(AssertionError, match=words):
        assert_creator_conforms(max)
