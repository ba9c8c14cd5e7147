"""A module's specs survive every way of copying and converting it."""

from __future__ import annotations

import copy
import gc
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import torchcreator as tc
from tests.spec.models import declared, declaring, model, step
from tests.spec.ways import WAYS, saved
from torchcreator._spec import table


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_keeps_the_specs_of_a_module(way):
    """The specs are equal after it, and the optimizers' hook still carries out the constraints."""
    original = model()
    expected = declared(original)
    result = way(original)
    assert declared(result) == expected
    assert {name: tc.spec_of(p) for name, p in result.named_parameters()} == expected
    assert all((p == 0.0).all() for p in step(result))


@settings(max_examples=60)
@given(ways=st.lists(st.sampled_from(sorted(WAYS)), min_size=2, max_size=6))
def test_ways_combine(ways):
    """After any sequence of ways the specs are what they were, and so is what the hook does."""
    result = model()
    expected = declared(result)
    for way in ways:
        result = WAYS[way](result)
    assert declared(result) == expected
    assert all((p == 0.0).all() for p in step(result))


def test_a_copy_and_its_original_are_both_found():
    """After a deep copy the specs of both are found, each from its own parameters."""
    original = model()
    copied = copy.deepcopy(original)
    for p, q in zip(original.parameters(), copied.parameters(), strict=True):
        assert p is not q
        assert tc.spec_of(p) == tc.spec_of(q) is not None


def test_a_shallow_copy_shares_parameters_and_specs():
    """``copy.copy`` of a module shares both."""
    original = model()
    copied = copy.copy(original)
    assert copied.gain is original.gain
    del original
    gc.collect()
    assert len(declared(copied)) == 6


def test_ties_have_one_spec_after_copying():
    """A tied parameter stays tied in a copy, and its spec is found under both owners."""
    with tc.creator_scope(declaring):
        tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        tied[1].weight = tied[0].weight
    for way in (copy.deepcopy, WAYS["pickle"], saved):
        copied = way(tied)
        assert copied[1].weight is copied[0].weight
        assert [*declared(copied)] == ["0.weight", "0.bias", "1.bias"]
        assert declared(copied[1])["weight"].tags == {"of": "weight"}


def test_a_table_lives_as_long_as_its_module():
    """Tables of modules that are gone are not looked at any more."""
    gc.collect()
    before = len(table._live)
    models = [copy.deepcopy(model()) for _ in range(10)]
    assert len(table._live) > before
    del models
    gc.collect()
    assert len(table._live) == before


def test_a_spec_is_frozen_and_equal_by_value():
    """A spec cannot be changed, and two specs that say the same are equal."""
    spec = tc.spec_of(tc.variable([1.0], name="a", constraint="non_neg"))
    assert spec == pickle.loads(pickle.dumps(spec))
    assert copy.deepcopy(spec) is spec
    assert copy.copy(spec) is spec
    with pytest.raises(AttributeError, match=r"set attribute|no setter|trainable"):
        spec.trainable = False


def test_a_parameter_nobody_declared_has_none():
    """`spec_of` is None for plain parameters, and `named_specs` leaves them out."""
    layer = nn.Linear(2, 2)
    assert tc.spec_of(layer.weight) is None
    assert declared(layer) == {}
    layer.gain = tc.variable([1.0], name="gain")
    assert [*declared(layer)] == ["gain"]


def test_a_replaced_parameter_keeps_the_declaration_of_its_name():
    """A module's variable is the name: what is assigned to it later is the same variable."""
    module = model()
    expected = declared(module)
    module.gain = nn.Parameter(torch.zeros(4))
    assert declared(module) == expected


def test_a_deleted_parameter_has_no_spec():
    """Nothing is found for a name that is gone."""
    module = model()
    del module.gain
    assert "gain" not in declared(module)


def test_names_come_in_the_order_of_named_parameters():
    """`named_specs` yields full names, in order, each parameter once."""
    module = model()
    module.alias = module.gain
    assert [*declared(module)] == [name for name, _ in module.named_parameters()]
