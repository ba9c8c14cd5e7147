"""The spec of a parameter outside any module survives every way of copying it."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import torchcreator as tc
from tests.spec.ways import WAYS, loaded, saved
from torchcreator.constraints import Clip

LOOSE_WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda p: pickle.loads(pickle.dumps(p)),
    "oldest-pickle": lambda p: pickle.loads(pickle.dumps(p, protocol=2)),
    "save": loaded,
    "share_memory": lambda p: p.share_memory_(),
    "data": lambda p: setattr(p, "data", p.detach().double().to(p.dtype)) or p,
    "list": lambda p: copy.deepcopy([p, p])[1],
    "list-parameter": lambda p: copy.deepcopy(nn.ParameterList([p]))[0],
    "optimizer": lambda p: copy.deepcopy(torch.optim.SGD([p])).param_groups[0]["params"][0],
}


def loose():
    """A parameter outside any module, with something to say in every field that can be pickled."""
    return tc.variable(
        torch.ones(2, 3),
        name="loose",
        constraint=Clip(0.0, 1.0),
        synchronization="on_write",
        aggregation="mean",
        caching_device="cpu",
        tags={"lr": 0.1, "names": ["a", "b"]},
    )


@pytest.mark.parametrize("way", LOOSE_WAYS.values(), ids=LOOSE_WAYS)
def test_every_way_keeps_the_spec_of_a_loose_parameter(way):
    """The spec, the kind and the value are equal after it, and the hook still finds it."""
    original = loose()
    expected = tc.spec_of(original)
    result = way(original)
    assert tc.spec_of(result) == expected
    assert type(result) is nn.Parameter
    assert result.requires_grad
    assert result.tolist() == [[1.0] * 3] * 2
    result.grad = torch.full_like(result, 100.0)
    torch.optim.SGD([result], lr=1.0).step()
    assert (result == 0.0).all()


@settings(max_examples=60)
@given(ways=st.lists(st.sampled_from(sorted(LOOSE_WAYS)), min_size=2, max_size=6))
def test_ways_combine_for_loose_parameters(ways):
    """After any sequence of ways a loose parameter's spec is what it was."""
    result = loose()
    expected = tc.spec_of(result)
    for way in ways:
        result = LOOSE_WAYS[way](result)
    assert tc.spec_of(result) == expected


@pytest.mark.parametrize(
    "constraint",
    ["non_neg", "max_norm", "min_max_norm", "unit_norm", "orthogonal", "symmetric", Clip(0, 1)],
    ids=str,
)
def test_ready_made_constraints_are_loaded_with_weights_only(constraint):
    """torch.load with its default accepts a loose parameter with a ready-made constraint."""
    original = tc.variable(torch.eye(3), constraint=constraint)
    assert tc.spec_of(loaded(original)) == tc.spec_of(original)


def test_copies_of_a_tied_loose_parameter_stay_tied():
    """One parameter in two places is one parameter in a copy."""
    p = loose()
    first, second = copy.deepcopy([p, p])
    assert first is second is not p


def test_a_copy_shares_no_memory_with_its_original():
    """A deep copy of a loose parameter is independent, gradient included."""
    p = loose()
    p.grad = torch.ones_like(p)
    q = copy.deepcopy(p)
    with torch.no_grad():
        q.zero_()
    assert p.tolist() == [[1.0] * 3] * 2


def test_swapping_takes_the_spec_along():
    """``torch.utils.swap_tensors`` exchanges attributes, and with them a loose parameter's spec."""
    p, q = loose(), nn.Parameter(torch.zeros(1))
    expected = tc.spec_of(p)
    torch.utils.swap_tensors(p, q)
    assert tc.spec_of(q) == expected
    assert tc.spec_of(p) is None


UNINITIALIZED_WAYS = [
    "copy",
    "deepcopy",
    "pickle",
    "oldest-pickle",
    "save",
    "list",
    "list-parameter",
]


@pytest.mark.parametrize("way", UNINITIALIZED_WAYS)
def test_a_parameter_without_shape_keeps_its_spec(way):
    """An UninitializedParameter's copy has its spec, dtype and trainability, and materialises."""
    p = tc.variable(
        validate_shape=False, trainable=False, dtype=torch.float64, name="u", constraint="non_neg"
    )
    expected = tc.spec_of(p)
    q = LOOSE_WAYS[way](p)
    assert type(q) is nn.UninitializedParameter
    assert q is not p
    assert (q.dtype, q.requires_grad, tc.spec_of(q)) == (torch.float64, False, expected)
    q.materialize((2,))
    assert type(q) is nn.Parameter
    assert tc.spec_of(q) == expected
    assert tc.spec_of(LOOSE_WAYS[way](q)) == expected


@settings(max_examples=40)
@given(
    before=st.lists(st.sampled_from(UNINITIALIZED_WAYS), max_size=3),
    after=st.lists(st.sampled_from(sorted(LOOSE_WAYS)), max_size=3),
)
def test_ways_combine_before_and_after_materialising(before, after):
    """A parameter copied without a shape, materialised and copied again keeps its spec."""
    p = tc.variable(validate_shape=False, name="u", tags={"lr": 1})
    expected = tc.spec_of(p)
    for way in before:
        p = LOOSE_WAYS[way](p)
    p.materialize((2,))
    with torch.no_grad():
        p.fill_(1.0)
    for way in after:
        p = LOOSE_WAYS[way](p)
    assert tc.spec_of(p) == expected
    assert p.tolist() == [1.0, 1.0]


def test_an_uninitialized_variable_in_a_module_survives():
    """A variable without shape that a module owns keeps its spec through copies of the module."""
    module = nn.Module()
    module.u = tc.variable(validate_shape=False, name="u", aggregation="sum")
    for way in (copy.deepcopy, WAYS["pickle"], saved):
        copied = way(module)
        copied.u.materialize((2,))
        assert tc.spec_of(copied.u) == tc.spec_of(module.u)
