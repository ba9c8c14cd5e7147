"""Scopes that a recorded constructor opens itself: what they give a parameter stays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.build.same import tensors_of


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.norm = nn.BatchNorm1d(3)
        self.truncated = nn.Parameter(torch.empty(4))
        nn.init.trunc_normal_(self.truncated)
        self.orthogonal = nn.Parameter(torch.empty(2, 2))
        nn.init.orthogonal_(self.orthogonal)


def sevens(next_creator, **kwargs):
    return next_creator(**{**kwargs, "initial_value": torch.full(kwargs["shape"], 7.0)})


def own(next_creator, **kwargs):
    return nn.Parameter(torch.full(kwargs["shape"], 5.0))


def double(next_creator, **kwargs):
    return next_creator(**{**kwargs, "dtype": torch.float64})


CREATORS = {
    "a value": sevens,
    "a parameter of its own": own,
    "an initialiser": tc.creators.initialize(nn.init.ones_),
    "an initialiser that draws": tc.creators.initialize(nn.init.normal_),
    "another dtype": double,
}
WAYS = {"build": tc.build, "materialize": lambda make: tc.materialize(tc.defer(make))}


@pytest.mark.parametrize("built", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("creator", CREATORS.values(), ids=CREATORS)
def test_a_scope_inside_the_factory_acts_as_without_a_recorder(creator, built):
    """What a creator sets survives the constructor's initialisation, recorded or not."""

    def make():
        with tc.creator_scope(creator):
            return Layers()

    torch.manual_seed(0)
    plain, state = make(), torch.get_rng_state()
    torch.manual_seed(0)
    model = built(make)
    assert tensors_of(model).keys() == tensors_of(plain).keys()
    for name, tensor in tensors_of(plain).items():
        assert torch.equal(tensors_of(model)[name], tensor), name
    assert torch.equal(torch.get_rng_state(), state)


def test_an_inspection_tells_of_a_value_given_inside():
    """A scope inside the factory that sets values is told, and nothing is drawn."""

    def make():
        with tc.creator_scope(tc.creators.initialize(nn.init.ones_)):
            return Layers()

    before = torch.get_rng_state()
    rows = {row.name: row for row in tc.inspect(make)}
    assert [str(d).split(":")[0] for d in rows["linear.weight"].decisions] == ["initialize(ones_)"]
    assert torch.equal(torch.get_rng_state(), before)
