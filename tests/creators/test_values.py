"""Creators that decide the first value, or which parameter it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import build
from torchcreator.creators import freeze, initialize, share

BOTH = pytest.mark.parametrize("make", [lambda f, *args: f(*args), build], ids=["scope", "build"])


@BOTH
def test_an_initialiser_replaces_the_modules_own(make):
    """The value sticks although the constructor initialises after it."""
    with tc.creator_scope(initialize(nn.init.ones_)):
        layer = make(nn.Linear, 3, 2)
    assert (torch.cat([layer.weight.flatten(), layer.bias]) == 1).all()


@BOTH
def test_an_initialiser_sees_the_shape(make):
    """Fan-in and fan-out are those of the parameter."""
    shapes = []

    def note(w):
        shapes.append(tuple(w.shape))
        return nn.init.zeros_(w)

    with tc.creator_scope(initialize(note, name="*weight")):
        make(nn.Linear, 3, 2)
    assert shapes == [(2, 3)]


def test_a_function_without_arguments_returns_the_value():
    """It is called once for each variable."""
    with tc.creator_scope(initialize(lambda: torch.full((2,), 7.0))):
        assert tc.variable([0.0, 0.0]).tolist() == [7.0, 7.0]


@pytest.mark.parametrize(
    "value",
    [[1.0, 2.0], torch.zeros(2), lambda: torch.zeros(2), lambda: [1.0, 2.0]],
    ids=["list", "tensor", "callable", "callable of a list"],
)
def test_a_value_gives_the_shape(value):
    """Without ``shape=``, the value that is replaced says how large the variable is."""
    with tc.creator_scope(initialize(lambda w: w.fill_(4.0))):
        assert tc.variable(value).tolist() == [4.0, 4.0]


def test_the_value_that_is_replaced_is_left_alone():
    """A tensor that the caller keeps is not written to."""
    kept = torch.zeros(2)
    with tc.creator_scope(initialize(nn.init.ones_)):
        tc.variable(kept)
        tc.variable(lambda: kept)
    assert kept.tolist() == [0.0, 0.0]


def test_a_lazy_parameter_is_left_to_its_module():
    """Without a shape there is nothing to initialise."""
    with tc.creator_scope(initialize(nn.init.ones_)):
        layer = nn.LazyLinear(2)
    layer(torch.ones(1, 3))
    assert (layer.weight != 1).any()


def test_what_is_no_function_is_refused():
    """A number or a constraint is an error where it is written."""
    with pytest.raises(TypeError, match=r"initialize got the constraint NonNeg\(\)"):
        initialize(tc.constraints.NonNeg())
    with pytest.raises(TypeError, match=r"initialize got 0\.0"):
        initialize(0.0)


def test_a_name_is_one_parameter():
    """``share`` is AUTO_REUSE: the second variable of a name is the first."""
    with tc.creator_scope(share()):
        first, second = tc.variable([1.0], name="w"), tc.variable([2.0], name="w")
        other = tc.variable([3.0], name="v")
    assert second is first
    assert first.item() == 1.0
    assert other is not first
    assert tc.spec_of(first).name == "w"


def test_what_has_no_name_is_not_shared():
    """Two unnamed variables are two."""
    with tc.creator_scope(share()):
        assert tc.variable([1.0]) is not tc.variable([1.0])


def test_builds_share_by_full_name():
    """Two models built in one scope share every parameter that both have, and its value."""

    def model(classes):
        return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, classes, bias=False))

    with tc.creator_scope(share(name="0.*")):
        first, second = build(model, 4), build(model, 5)
    assert second[0].weight is first[0].weight
    assert second[0].bias is first[0].bias
    assert second[1].weight.shape == (5, 3)


def test_modules_in_a_plain_scope_are_not_tied_by_their_local_names():
    """Two unrelated layers both have a "weight"; that is no reason to make one of them."""
    with tc.creator_scope(share()), pytest.raises(ValueError, match=LOCAL):
        nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))


LOCAL = r"(?s)asked for 'weight' again in a plain scope, by a Linear\..*Construct.*build\(\)"


def test_a_variable_is_not_tied_to_a_modules_local_name():
    """A variable called "weight" is not the weight of whichever module came first, nor is it."""
    with tc.creator_scope(share()):
        nn.Linear(2, 3)
        with pytest.raises(ValueError, match="'weight', which a module in a plain scope has"):
            tc.variable(torch.ones(3, 2), name="weight")
    with tc.creator_scope(share()):
        tc.variable(torch.ones(3, 2), name="weight")
        with pytest.raises(ValueError, match="asked for 'weight' again in a plain scope"):
            nn.Linear(2, 3)


def test_a_build_is_not_tied_to_a_local_name():
    """The full name "weight" of a model that is one layer is not a plain scope's local one."""
    with tc.creator_scope(share()):
        nn.Linear(2, 3)
        with pytest.raises(ValueError, match="'weight', which a module in a plain scope has"):
            build(nn.Linear, 2, 3)


@pytest.mark.parametrize(
    "value",
    [[[1.0, 2.0]], torch.ones(1, 2), lambda: torch.ones(1, 2), lambda: torch.randn(1, 2)],
    ids=["list", "tensor", "callable", "a draw"],
)
def test_another_shape_under_a_name_is_an_error(value):
    """A shape that only the value has counts as one that is given; nothing is drawn to see it."""
    with tc.creator_scope(share()):
        tc.variable([1.0], name="v")
        before = torch.get_rng_state()
        with pytest.raises(ValueError, match=r"(?s)share\(\) has a variable 'v'.*\(1, 2\).*\(1,\)"):
            tc.variable(value, name="v")
        assert torch.equal(torch.get_rng_state(), before)


def test_a_declared_shape_under_a_name_is_compared():
    """So is a shape that is given."""
    with tc.creator_scope(share()):
        first = tc.variable(nn.init.ones_, shape=(2,), name="v")
        assert tc.variable(nn.init.ones_, shape=(2,), name="v") is first
        with pytest.raises(ValueError, match=r"share\(\) has a variable 'v' of another shape"):
            tc.variable(nn.init.ones_, shape=(3,), name="v")


@pytest.mark.parametrize(
    "function",
    [nn.init.xavier_uniform_, nn.init.orthogonal_, nn.init.eye_, nn.init.dirac_],
    ids=lambda function: function.__name__,
)
@BOTH
def test_an_initialiser_that_cannot_serve_a_shape_is_told(function, make):
    """Torch's own message names no variable: ours does, and shows how to choose others."""
    named = r"(?s)initialize\(\w+_\) was asked for variable '(weight|bias)', of shape .*when=lambda"
    with tc.creator_scope(initialize(function)), pytest.raises(ValueError, match=named) as caught:
        make(nn.Linear, 2, 3)
    assert isinstance(caught.value.__cause__, ValueError)
    with tc.creator_scope(initialize(nn.init.xavier_uniform_, when=lambda shape, **_: shape[1:])):
        make(nn.Linear, 2, 3)


def test_the_value_that_is_replaced_tells_the_shape_that_is_refused():
    """A variable that has no shape but its value's is named in the same error."""
    with (
        tc.creator_scope(initialize(nn.init.xavier_uniform_)),
        pytest.raises(ValueError, match=r"was asked for variable 'gain', of shape \(2,\)"),
    ):
        tc.variable([1.0, 2.0], name="gain")


def test_an_initialisers_own_error_passes():
    """What goes wrong in a function of the user's, other than a refusal of its value, is theirs."""

    def broken(w):
        raise LookupError("no table")

    with tc.creator_scope(initialize(broken)), pytest.raises(LookupError, match="no table"):
        nn.Linear(2, 3)


@BOTH
def test_frozen_parameters_have_no_gradient(make):
    """``freeze`` turns gradients off, and the spec says so."""
    with tc.creator_scope(freeze(name="*bias")):
        layer = make(nn.Linear, 2, 3)
    assert [p.requires_grad for p in (layer.weight, layer.bias)] == [True, False]
    assert tc.spec_of(layer.bias).trainable is False
