"""Functions for initial values: when they are called, how often, and with what."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator._chain.initial_value import InPlace


def test_what_a_function_returns_is_taken_over():
    """No copy is made of what a callable made freshly: its memory becomes the parameter's."""
    made = torch.ones(2)
    assert tc.variable(lambda: made).data_ptr() == made.data_ptr()


def test_an_in_place_initialiser_fills_the_declared_shape():
    """With ``shape``, a callable that takes a tensor fills one of that shape and dtype."""
    p = tc.variable(nn.init.ones_, shape=[2, 3], dtype=torch.float64)
    assert torch.equal(p, torch.ones(2, 3, dtype=torch.float64))


@pytest.mark.parametrize(
    "initialiser",
    [
        functools.partial(nn.init.constant_, val=7.0),
        lambda t: t.fill_(7.0),
        lambda t: (t.fill_(7.0), None)[1],
        lambda t: torch.full_like(t, 7.0),
        functools.partial(torch.Tensor.fill_, value=7.0),
        lambda: torch.full((2,), 7.0),
        functools.partial(torch.full, (2,), 7.0),
        lambda t=None: torch.full((2,), 7.0),
    ],
    ids=[
        "a partial of nn.init",
        "a function",
        "one that returns None",
        "one that returns a new tensor",
        "a builtin method",
        "without arguments",
        "a bound builtin",
        "an argument with a default",
    ],
)
def test_every_way_to_write_an_initialiser(initialiser):
    """With ``shape``, both kinds of callable serve: one that fills, and one that returns."""
    assert tc.variable(initialiser, shape=(2,)).tolist() == [7.0, 7.0]


def test_an_initialiser_draws_what_torch_draws():
    """A seeded initialiser gives the numbers that it gives on a tensor made by hand."""
    torch.manual_seed(3)
    expected = nn.init.xavier_uniform_(torch.empty(4, 5))
    torch.manual_seed(3)
    assert torch.equal(tc.variable(nn.init.xavier_uniform_, shape=(4, 5)), expected)


def test_creators_call_an_initialiser_without_arguments():
    """An in-place initialiser reaches creators as a callable without arguments, and lazy."""
    seen = []

    def doubled(next_creator, **kwargs):
        seen.append(kwargs["initial_value"])
        return next_creator(**{**kwargs, "initial_value": lambda: seen[0]() * 2})

    with tc.creator_scope(doubled):
        assert tc.variable(nn.init.ones_, shape=(2,)).tolist() == [2.0, 2.0]
    assert isinstance(seen[0], InPlace)
    assert "ones_" in repr(seen[0])


def test_an_initialiser_learns_the_final_shape_dtype_and_device():
    """What a creator further out changes about the tensor, the initialiser sees."""

    def changed(next_creator, **kwargs):
        return next_creator(**{**kwargs, "shape": (3,), "dtype": torch.float64, "device": "meta"})

    seen = []

    def initialiser(tensor):
        seen.append((tuple(tensor.shape), tensor.dtype, tensor.device.type))

    with tc.creator_scope(changed):
        p = tc.variable(initialiser, shape=(2,))
    assert seen == [((3,), torch.float64, "meta")]
    assert (tuple(p.shape), p.dtype, p.device.type) == seen[0]


def test_an_initialiser_keeps_its_shape_where_a_creator_drops_it():
    """Without the keyword, the shape that the caller declared still holds."""

    def forgetful(next_creator, **kwargs):
        return next_creator(initial_value=kwargs["initial_value"])

    with tc.creator_scope(forgetful):
        assert tc.variable(nn.init.ones_, shape=(2,)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "initialiser",
    [nn.init.ones_, lambda: torch.ones(2, 3)],
    ids=["one that fills", "one that returns"],
)
def test_creators_may_bring_an_initialiser(initialiser):
    """A creator sets the same kinds of initial value as a caller, for stock modules as well."""

    def ones(next_creator, **kwargs):
        return next_creator(**{**kwargs, "initial_value": initialiser})

    with tc.creator_scope(ones):
        assert tc.variable(0.0, shape=(2, 3)).sum().item() == 6
        assert nn.Linear(3, 2, bias=False).weight.sum().item() == 6
    assert tc.default_creator(initial_value=initialiser, shape=(2, 3)).sum().item() == 6


def test_a_callable_is_called_once_after_every_creator():
    """A callable stays lazy through the chain and is called once, by the default creator."""
    log = []

    def watched(next_creator, **kwargs):
        log.append("in")
        made = next_creator(**kwargs)
        log.append("out")
        return made

    with tc.creator_scope(watched), tc.creator_scope(watched):
        tc.variable(lambda: log.append("value") or 1.0)
    assert log == ["in", "in", "value", "out", "out"]


def test_a_callable_is_never_called_if_a_creator_answers():
    """Where a creator returns a parameter of its own, no value is computed."""
    own = nn.Parameter(torch.zeros(1))
    with tc.creator_scope(lambda next_creator, **kwargs: own):
        assert tc.variable(lambda: pytest.fail("was called")) is own


def test_what_a_callable_raises_passes_unchanged():
    """An error inside an initial value is the caller's, and reaches him as it is."""
    error = TypeError("inside")

    def raises():
        raise error

    with pytest.raises(TypeError, match=r"^inside$") as caught:
        tc.variable(raises)
    assert caught.value is error


def test_a_variable_may_be_made_while_another_ones_value_is():
    """An initial value that makes variables itself does not confuse their shapes."""

    def outer():
        inner = tc.variable(nn.init.ones_, shape=(3,))
        return inner.detach().sum().reshape(1)

    assert tc.variable(outer, shape=(1,)).tolist() == [3.0]


class Nothing:
    """An object that is called without arguments."""

    def __call__(self):
        return torch.ones(2)


class Wrapped(Nothing):
    """An object that says by ``__wrapped__`` what it takes."""

    def __init__(self, function):
        functools.update_wrapper(self, function)

    def __call__(self, *args):
        return self.__wrapped__(*args)


class Filling:
    """An object that is called with a tensor."""

    def __call__(self, tensor):
        return tensor.fill_(1.0)


OBJECTS = {
    "without arguments": Nothing(),
    "with a tensor": Filling(),
    "wrapping an initialiser": Wrapped(nn.init.ones_),
    "wrapping a lambda": Wrapped(lambda: torch.ones(2)),
}


@pytest.mark.parametrize("case", OBJECTS)
def test_objects_are_called_as_their_signature_says(case):
    """An object with a ``__call__`` is the value or an in-place initialiser, as a function is."""
    assert tc.variable(OBJECTS[case], shape=(2,)).tolist() == [1.0, 1.0]
