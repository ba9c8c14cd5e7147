"""The ledger writes down every variable, by its full name as soon as that is known."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import build
from torchcreator.creators import Ledger, cast, freeze, record


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3, bias=False))
        self.scale = tc.variable([1.0, 2.0], name="gain", tags={"kind": "scale"})


@pytest.fixture
def ledger():
    return Ledger()


def test_a_plain_scope_gives_full_names(ledger):
    """Local names become full ones once the model is whole, in the order of creation."""
    with tc.creator_scope(record(ledger)):
        model = Model()
    names = ["encoder.0.weight", "encoder.0.bias", "encoder.1.weight", "scale"]
    assert ledger.names == names
    assert set(names) == {name for name, _ in model.named_parameters()}
    assert [entry.order for entry in ledger] == [0, 1, 2, 3]


def test_a_build_gives_full_names(ledger):
    """In a build names are full at once, in the order of ``named_parameters``."""
    with tc.creator_scope(record(ledger)):
        model = build(Model)
    assert ledger.names == [name for name, _ in model.named_parameters()]


def test_a_name_stays_when_its_model_is_gone(ledger):
    """The last name that was known is kept, and no entry keeps a parameter alive."""
    with tc.creator_scope(record(ledger)):
        model = Model()
    assert ledger[0].name == "encoder.0.weight"
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert ledger[0].name == "encoder.0.weight"


def test_a_name_grows_with_what_its_model_becomes_part_of(ledger):
    """A model that is put into another one is known by its name there."""
    with tc.creator_scope(record(ledger)):
        layer = nn.Linear(2, 3)
    assert ledger.names == ["weight", "bias"]
    outer = nn.ModuleDict({"head": layer})
    assert ledger.names == ["head.weight", "head.bias"]
    assert len(outer) == 1


def test_of_several_names_it_takes_the_shortest(ledger):
    """A module in two places has the shorter path, whichever place it took first."""
    with tc.creator_scope(record(ledger)):
        layer = nn.Linear(2, 3, bias=False)
    outer = nn.Module()
    outer.deep = nn.Sequential(layer)
    outer.near = layer
    assert ledger.names == ["near.weight"]


def test_an_entry_says_what_a_variable_is(ledger):
    """Owner, shape, dtype, device, policies, tags and size are written down."""
    with tc.creator_scope(record(ledger)):
        model = Model()
        tc.variable(0, name="steps", synchronization="on_read", aggregation="sum")
    weight, gain, steps = ledger[0], ledger[3], ledger[4]
    assert weight.module is nn.Linear
    assert (weight.shape, weight.dtype, weight.device.type) == ((3, 2), torch.float32, "cpu")
    assert weight.nbytes == 24
    assert weight.trainable
    assert gain.module is None
    assert gain.tags == {"kind": "scale"}
    assert (steps.synchronization.name, steps.aggregation.name) == ("ON_READ", "SUM")
    assert not steps.trainable
    assert str(steps) == "steps: (), torch.int64, cpu, not trainable"
    assert model is not None


def test_an_entry_says_who_changed_what(ledger):
    """As the innermost creator it sees what the others did, and lists them from inside out."""
    constrained = tc.creators.constrain("non_neg")
    with (
        tc.creator_scope(constrained),
        tc.creator_scope(cast(torch.bfloat16)),
        tc.creator_scope(freeze()),
        tc.creator_scope(record(ledger)),
    ):
        nn.Linear(2, 3, bias=False)
    entry = ledger[0]
    assert entry.creators == (
        "record(...)",
        "freeze()",
        "cast(torch.bfloat16)",
        "constrain('non_neg')",
    )
    assert entry.changed == {
        "dtype": (torch.float32, torch.bfloat16),
        "trainable": (None, False),
        "constraint": (None, tc.constraints.NonNeg()),
    }


@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(2, 3), lambda: tc.variable([1.0])], ids=["module", "variable"]
)
def test_nothing_changed_is_an_empty_entry(make, ledger):
    """What a default creator works out by itself does not count as a change."""
    with tc.creator_scope(record(ledger)):
        make()
    assert [dict(entry.changed) for entry in ledger] == [{}] * len(ledger)


def test_a_lazy_parameter_has_no_shape_yet(ledger):
    """What has no shape has no bytes, and is shown with a question mark."""
    with tc.creator_scope(record(ledger)):
        tc.variable(name="later", validate_shape=False)
    assert (ledger[0].shape, ledger[0].nbytes) == (None, 0)
    assert str(ledger) == "later: ?, torch.float32, cpu"


def test_assertions_count_and_match(ledger):
    """A glob matches full names, and a count has to be met exactly."""
    with tc.creator_scope(record(ledger)):
        model = Model()
    ledger.assert_created("encoder.*.weight", count=2)
    ledger.assert_created("*bias")
    ledger.assert_created("decoder.*", count=0)
    assert [entry.name for entry in ledger.matching("encoder.0.*")] == [
        "encoder.0.weight",
        "encoder.0.bias",
    ]
    with pytest.raises(AssertionError, match=r"(?s)Expected 3 variables.*2 were.*encoder\.0\.bias"):
        ledger.assert_created("encoder.*.weight", count=3)
    with pytest.raises(AssertionError, match="Expected at least one variable named 'decoder'"):
        ledger.assert_created("decoder")
    assert model is not None


def test_a_ledger_can_start_again(ledger):
    """A cleared ledger is empty and usable."""
    with tc.creator_scope(record(ledger)):
        tc.variable(1.0)
        assert repr(ledger) == "<Ledger of 1 variables>"
        ledger.clear()
        assert (len(ledger), list(ledger), str(ledger)) == (0, [], "")
        with pytest.raises(AssertionError, match="none"):
            ledger.assert_created("*")
        tc.variable(1.0, name="again")
    assert ledger.names == ["again"]


def test_an_entry_is_found_by_name_and_by_order():
    """``ledger["w"]`` as an inventory does it; a near miss is told, and so is an ambiguous name."""
    ledger = tc.creators.Ledger()
    with tc.creator_scope(tc.creators.record(ledger)):
        kept = nn.Linear(2, 3)
        nn.Linear(4, 5, bias=False)  # is gone, so its local name is all that is known
        nn.Linear(4, 5, bias=False)
    assert ledger["bias"] == ledger[1]
    assert ledger["bias"].shape == kept.bias.shape
    with pytest.raises(
        KeyError, match=r"'bais' is the name of 0 entries \(did you mean 'bias'\?\)"
    ):
        ledger["bais"]
    with pytest.raises(KeyError, match="'weight' is the name of 3 entries"):
        ledger["weight"]
    with pytest.raises(IndexError, match="out of range"):
        ledger[7]
