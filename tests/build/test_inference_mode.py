"""`build` under ``inference_mode``: what it makes of a model is what the plain constructor does."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard

import torchcreator as tc
from tests.support.log import passing
from tests.support.ranks import run_ranks
from torchcreator import build


def halved(next_creator, **kwargs):
    value = kwargs["initial_value"]
    return next_creator(**{**kwargs, "initial_value": lambda: value() / 2})


def halved_in_place(next_creator, **kwargs):
    value = kwargs["initial_value"]
    return next_creator(**{**kwargs, "initial_value": lambda: value().mul_(0.5)})


def replaced(next_creator, **kwargs):
    return nn.Parameter(kwargs["initial_value"]() / 2)


CREATORS = {
    "passing": (passing, 1.0),
    "frozen": (tc.creators.freeze(), 1.0),
    "halved": (halved, 0.5),
    "halved in place": (halved_in_place, 0.5),
    "replaced": (replaced, 0.5),
    "cast": (tc.creators.cast(torch.float64), 1.0),
}


def tied():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize("seed", [None, 0], ids=["exact", "seeded"])
@pytest.mark.parametrize("name", CREATORS)
def test_creators_are_asked_under_inference_mode(name, seed):
    """Values are those of a build outside, and the generator ends where it would."""
    creator, factor = CREATORS[name]
    torch.manual_seed(1)
    expected = build(tied, seed=seed)
    after = torch.get_rng_state()
    torch.manual_seed(1)
    with torch.inference_mode(), tc.creator_scope(creator):
        made = build(tied, seed=seed)
        assert made(torch.ones(2, 3, dtype=made[0].weight.dtype)).shape == (2, 3)
    assert made[1].weight is made[0].weight
    for one, other in zip(made.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, (other * factor).to(one.dtype))
    assert torch.equal(torch.get_rng_state(), after)


def test_a_parameter_is_an_inference_tensor_as_the_plain_ones_are():
    """Where nobody changed a value the parameter is what the constructor would have made."""
    with torch.inference_mode():
        plain = nn.Linear(2, 3)
        with tc.creator_scope(passing):
            made = build(nn.Linear, 2, 3)
    assert plain.weight.is_inference()
    assert made.weight.is_inference()


def materialized(model, name):
    """Materialize a model under inference mode, in a scope with a creator."""
    with torch.inference_mode(), tc.creator_scope(CREATORS[name][0]):
        return tc.materialize(model)


ITS_OWN = [name for name in CREATORS if name != "replaced"]  # whose creator made it there


@pytest.mark.parametrize("name", ITS_OWN)
def test_a_deferred_model_is_what_it_was_when_its_constructor_ran(name):
    """Materialized under inference mode, it can be trained all the same."""
    model = materialized(tc.defer(lambda: nn.Sequential(tied(), nn.BatchNorm1d(3))), name)
    tensors = [*model.parameters(), *model.buffers()]
    assert not any(tensor.is_inference() for tensor in tensors)


def test_so_is_a_sharded_one(tmp_path):
    """Its parts are no inference tensors either, and it trains."""

    def rank(_):
        found = []
        for name in ITS_OWN[:-1]:  # a cast is refused
            model = fully_shard(tc.defer(tied, seed=0))
            materialized(model, name)
            parts = [tensor for p in model.parameters() for tensor in (p, p.to_local())]
            found.append(any(part.is_inference() for part in parts))
            if name != "frozen":
                model(torch.ones(2, 3)).sum().backward()
        return found

    assert run_ranks(rank, 1, tmp_path) == [[False] * 4]
