"""What creators see of stock modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.modules.creators import Own


def test_a_creator_sees_the_owner_and_what_the_owner_made(ledger):
    """``module`` is the owner, ``name`` its local name; shape, dtype and device are its own."""
    with tc.creator_scope(ledger):
        layer = nn.Linear(2, 3, dtype=torch.float64)
    first, second = ledger.calls
    assert first["module"] is layer
    assert second["module"] is layer
    assert [call["name"] for call in ledger.calls] == ["weight", "bias"]
    assert [call["shape"] for call in ledger.calls] == [(3, 2), (3,)]
    assert {call["dtype"] for call in ledger.calls} == {torch.float64}
    assert {call["device"] for call in ledger.calls} == {torch.device("cpu")}


def test_a_creator_sees_every_keyword_at_its_default(ledger):
    """A stock module's parameter brings all the keywords of `variable`, undecided."""
    with tc.creator_scope(ledger):
        tc.variable(1.0)
        nn.Linear(2, 3)
    variable, weight, _ = ledger.calls
    assert weight.keys() == variable.keys()
    differing = {"initial_value", "name", "dtype", "shape", "device", "module"}
    assert {key for key in weight if weight[key] != variable[key]} <= differing


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(2, 3),
        lambda: nn.LSTM(2, 3),
        lambda: nn.MultiheadAttention(4, 2),
        lambda: nn.ParameterList([torch.ones(2)]),
        lambda: nn.Embedding.from_pretrained(torch.ones(2, 2)),
        lambda: nn.LazyLinear(3),
        Own,
    ],
    ids=["linear", "lstm", "attention", "list", "pretrained", "lazy", "user's"],
)
def test_uninitialised_memory_is_never_handed_out(ledger, make):
    """``initial_value`` is None and no keyword holds a tensor: the module has no value yet."""
    with tc.creator_scope(ledger):
        make()
    assert ledger.calls
    assert all(call["initial_value"] is None for call in ledger.calls)
    values = [value for call in ledger.calls for value in call.values()]
    assert not any(isinstance(value, torch.Tensor) for value in values)


@pytest.mark.parametrize(
    ("requires_grad", "seen"), [(True, None), (False, False)], ids=["trained", "frozen"]
)
def test_trainable_is_false_only_where_the_module_froze_it(ledger, requires_grad, seen):
    """``trainable`` is False where the module set ``requires_grad=False``, else None."""
    with tc.creator_scope(ledger):
        module = Own(requires_grad=requires_grad)
    assert [call["trainable"] for call in ledger.calls] == [seen]
    assert module.w.requires_grad is requires_grad
    assert tc.spec_of(module.w).trainable is requires_grad


def test_none_parameters_are_left(recorded_variables):
    """A parameter that is None is not made."""
    layer = nn.Linear(2, 3, bias=False)
    layer.register_parameter("gain", None)
    recorded_variables.assert_created("weight", count=1)
    layer.weight = None
    recorded_variables.assert_created("*", count=1)


def test_plain_tensors_in_a_parameter_list_are_made(ledger):
    """What ParameterList and ParameterDict turn into parameters passes the creators."""
    with tc.creator_scope(ledger):
        nn.ParameterList([torch.zeros(2), nn.Parameter(torch.ones(1))])
        nn.ParameterDict({"a": torch.zeros(1)})
    assert ledger.names == ["ParameterList.0", "ParameterList.1", "ParameterDict.a"]


def test_a_parameter_set_after_construction_is_made(ledger):
    """A new parameter that somebody assigns to a finished module passes the creators too."""
    layer = nn.Linear(2, 3)
    with tc.creator_scope(ledger):
        layer.weight = nn.Parameter(torch.ones(3, 2))
        layer.register_parameter("gain", nn.Parameter(torch.ones(3)))
    assert ledger.names == ["Linear.weight", "Linear.gain"]
    assert layer.weight.tolist() == [[1.0, 1.0]] * 3


def test_a_parameter_assigned_twice_in_a_constructor_is_made_twice(ledger):
    """A subclass that replaces what its base made brings a new parameter."""

    class Narrow(nn.Linear):
        def __init__(self):
            super().__init__(8, 8)
            self.weight = nn.Parameter(torch.ones(8, 1))

    with tc.creator_scope(ledger):
        module = Narrow()
    assert ledger.names == ["Narrow.weight", "Narrow.bias", "Narrow.weight"]
    assert tc.spec_of(module.weight).shape == (8, 1)
