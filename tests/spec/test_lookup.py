"""A spec is looked up without looking through everything that was ever declared."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator._spec import table


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


@pytest.fixture
def declared():
    """Many declared parameters."""
    with tc.creator_scope(passing):
        return [nn.Linear(1, 1) for _ in range(200)]


@pytest.fixture
def passes(monkeypatch):
    """Count the passes over the declarations of all live tables."""
    counted = []
    whole = table.specs_of
    monkeypatch.setattr(table, "specs_of", lambda p: counted.append(1) or whole(p))
    return counted


def test_an_undeclared_parameter_costs_no_pass(declared, passes):
    """That a parameter is in no table is seen without reading a declaration."""
    plain = nn.Linear(1, 1)
    read = []
    for module in declared:
        module.__dict__[table.TABLE].declared = _Noting(read)
    assert tc.spec_of(plain.weight) is None
    assert tc.spec_of(torch.ones(1)) is None
    assert (passes, read) == ([], [])


class _Noting(dict):
    """A table's declarations, which note that they were read."""

    def __init__(self, read):
        super().__init__()
        self._read = read

    def items(self):
        self._read.append(1)
        return super().items()


def test_a_declared_parameter_is_found_again_at_once(declared, passes, monkeypatch):
    """Once it was found, a parameter is looked up in its own table only."""
    assert tc.spec_of(declared[7].weight).name == "weight"
    monkeypatch.setattr(table, "tables_with", None)
    assert tc.spec_of(declared[7].weight).name == "weight"
    assert passes == []


def test_the_index_does_not_grow():
    """What is known of modules that are gone is forgotten, however many are looked up."""
    gc.collect()
    table.specs_of([])  # what is known now lives
    kept = []  # so that none has the place of another
    for _ in range(1000):
        with tc.creator_scope(passing):
            layer = nn.Linear(1, 1)
        assert tc.spec_of(layer.weight).name == "weight"
        kept.append(layer.weight)
    live = sum(len(t.declared) for t in table.live_tables())
    assert len(table._index) <= 2 * live + 128


def test_another_parameter_at_the_same_place_is_another(declared):
    """A parameter that was exchanged is not taken for the one that was found there."""
    layer = declared[0]
    assert tc.spec_of(layer.weight).name == "weight"
    old, layer.weight = layer.weight, nn.Parameter(torch.ones(1, 1))
    assert tc.spec_of(old) is None
    assert tc.spec_of(layer.weight).name == "weight"
    copied = copy.deepcopy(layer)
    assert tc.spec_of(copied.weight).name == "weight"
    assert tc.spec_of(nn.utils.parametrizations.weight_norm(copied).bias).name == "bias"
    assert tc.spec_of(copied.parametrizations.weight.original0) is not None
