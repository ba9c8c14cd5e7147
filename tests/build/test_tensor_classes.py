"""Parameters of other classes than torch's own go through creators as what they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

import torchcreator as tc
from tests.support.log import passing
from torchcreator import build
from torchcreator.creators import cast, freeze, initialize, meta, on, optimizer


class Int8(torch.Tensor):
    """A quantised weight: integers and a scale behind one tensor, as quantising libraries do."""

    @staticmethod
    def __new__(cls, q, s):
        return torch.Tensor._make_wrapper_subclass(cls, q.shape, dtype=s.dtype, device=q.device)

    def __init__(self, q, s):
        self.q, self.s = q, s

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.detach.default, torch.ops.aten.clone.default):
            return cls(func(args[0].q), func(args[0].s))
        whole = tree_map(lambda x: x.q * x.s if isinstance(x, Int8) else x, args)
        return func(*whole, **(kwargs or {}))


def quantised():
    layer = nn.Linear(4, 4)
    weight = layer.weight.detach()
    scale = weight.abs().amax() / 127
    layer.weight = nn.Parameter(Int8((weight / scale).round().to(torch.int8), scale), False)
    return layer


POLICIES = {
    "passing": passing,
    "freeze": freeze(),
    "optimizer": optimizer(lr=0.1),
    "constrain": tc.creators.constrain(tc.constraints.Clip(-1.0, 1.0)),
    "local": tc.creators.local(),
    "record": tc.creators.record(tc.creators.Ledger()),
}


@pytest.mark.parametrize("seed", [None, 0], ids=["exact", "seeded"])
@pytest.mark.parametrize("name", POLICIES)
def test_a_wrapper_stays_one(name, seed):
    """A creator that sets no value leaves a weight of a tensor subclass what it is, values too."""
    torch.manual_seed(2)
    plain = build(quantised, seed=seed)
    torch.manual_seed(2)
    with tc.creator_scope(POLICIES[name]):
        made = build(quantised, seed=seed)
    assert type(made.weight.data) is Int8
    assert torch.equal(made.weight.q, plain.weight.q)
    assert torch.equal(made.weight.s, plain.weight.s)
    assert torch.equal(made.bias, plain.bias)
    assert tc.spec_of(made.weight) is not None
    assert torch.equal(made(torch.ones(1, 4)), plain(torch.ones(1, 4)))


@pytest.mark.parametrize("creator", [cast(torch.float64), on("meta")], ids=["cast", "on"])
def test_another_form_of_a_wrapper_is_refused(creator):
    """What it wraps has no value yet, so it cannot be converted: an error, and no plain tensor."""
    with (
        tc.creator_scope(creator),
        pytest.raises(tc.BuildError, match=r"(?s)'weight' .*Int8.* no values yet.*after build"),
    ):
        build(quantised)


def test_a_value_of_a_creators_own_takes_a_wrappers_place():
    """``initialize`` says what the value is to be: a real one, on the default device."""
    with tc.creator_scope(initialize(nn.init.zeros_)):
        made = build(quantised)
    assert made.weight.device.type == "cpu"
    assert not made.weight.any()


def sparse():
    module = nn.Module()
    module.weight = nn.Parameter(torch.eye(3).to_sparse())
    return module


@pytest.mark.parametrize(
    "creator", [passing, freeze(), cast(torch.float64)], ids=["passing", "freeze", "cast"]
)
@pytest.mark.parametrize("make", [sparse, lambda: build(sparse)], ids=["scope", "build"])
def test_a_sparse_parameter_stays_sparse(make, creator):
    """It has no memory of one piece, and goes through all the same."""
    with tc.creator_scope(creator):
        made = make()
    assert made.weight.layout is torch.sparse_coo
    assert torch.equal(made.weight.to_dense(), torch.eye(3, dtype=made.weight.dtype))


class Tagged(nn.Parameter):
    """A parameter of a class of its own, with an attribute."""


def tagged():
    module = nn.Module()
    weight = Tagged(torch.ones(2))
    weight.tag = "x"
    module.weight = weight
    return module


@pytest.mark.parametrize(
    ("make", "creator"),
    [
        pytest.param(tagged, meta(), id="scope-meta"),
        pytest.param(tagged, passing, id="scope-passing"),
        pytest.param(tagged, cast(torch.float64), id="scope-cast"),
        pytest.param(tagged, initialize(nn.init.zeros_), id="scope-initialize"),
        pytest.param(lambda: build(tagged), meta(), id="build-meta"),
        pytest.param(lambda: build(tagged), cast(torch.float64), id="build-cast"),
    ],
)
def test_a_parameter_keeps_its_class_and_attributes(make, creator):
    """Whatever a creator changes of it, a `Parameter` subclass is the object it was made as."""
    with tc.creator_scope(creator):
        weight = make().weight
    assert type(weight) is Tagged
    assert weight.tag == "x"
