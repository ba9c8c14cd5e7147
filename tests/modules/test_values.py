"""A creator's value outlives the module's own initialisation, and reparametrisations of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import torchcreator as tc
from tests.modules.creators import changed, constant

# Values


def test_a_creators_value_sticks():
    """The constructor's own initialisation does not overwrite a value that a creator set."""
    with tc.creator_scope(constant(7.0)):
        layers = [
            nn.Linear(2, 3),
            nn.LayerNorm(3),
            nn.LSTM(2, 2),
            nn.Embedding(3, 2, padding_idx=0),
        ]
    for layer in layers:
        for name, parameter in layer.named_parameters():
            assert (parameter == 7.0).all(), (layer, name)


def test_a_lazy_value_is_made_for_its_parameter():
    """A callable without arguments is called once for each parameter."""

    def normal(next_creator, **kwargs):
        kwargs["initial_value"] = lambda: torch.arange(float(kwargs["shape"].numel())).view(
            kwargs["shape"]
        )
        return next_creator(**kwargs)

    with tc.creator_scope(normal):
        layer = nn.Linear(2, 2)
    assert layer.weight.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert layer.bias.tolist() == [0.0, 1.0]


def test_a_value_that_changes_the_dtype_too_sticks():
    """Value and dtype may both be the creator's."""

    def creator(next_creator, **kwargs):
        value = torch.full(kwargs["shape"], 0.5, dtype=torch.bfloat16)
        return next_creator(**{**kwargs, "dtype": torch.bfloat16, "initial_value": value})

    with tc.creator_scope(creator):
        layer = nn.Linear(2, 2)
    assert layer.weight.dtype == torch.bfloat16
    assert (layer.weight == 0.5).all()


def test_a_value_on_another_device_is_a_new_object():
    """A meta module's parameter cannot take a real value in place; it is replaced."""
    with tc.creator_scope(changed(device="cpu")), tc.creator_scope(constant(3.0)):
        layer = nn.Linear(2, 2, device="meta")
    assert type(layer.weight) is nn.Parameter
    assert layer.weight.tolist() == [[3.0, 3.0]] * 2
    assert tc.spec_of(layer.weight).shape == (2, 2)


def test_a_returned_parameter_sticks():
    """A parameter of the creator's own is what the module holds, and is not initialised."""
    given = {}

    def creator(next_creator, **kwargs):
        given[kwargs["name"]] = nn.Parameter(torch.full(kwargs["shape"], 4.0))
        return given[kwargs["name"]]

    with tc.creator_scope(creator):
        layer = nn.Linear(2, 3)
    assert layer.weight is given["weight"]
    assert layer.bias is given["bias"]
    assert all((p == 4.0).all() for p in layer.parameters())
    assert tc.spec_of(layer.weight) is None  # nobody declared it


def test_a_shared_parameter_is_one():
    """A creator that returns one parameter for a name ties modules that never met."""
    shared = {}

    def share(next_creator, **kwargs):
        if kwargs["name"] not in shared:
            shared[kwargs["name"]] = next_creator(**kwargs)
        return shared[kwargs["name"]]

    with tc.creator_scope(changed(tags={"shared": True})), tc.creator_scope(share):
        first = nn.Linear(2, 2)
        value = first.weight.detach().clone()
        second = nn.Linear(2, 2)
    assert second.weight is first.weight
    assert torch.equal(first.weight, value)
    assert tc.spec_of(second.weight).tags == {"shared": True}


def test_a_variable_made_instead_sticks_with_its_spec():
    """A creator may answer with a variable of its own; its declaration becomes the module's."""

    def creator(next_creator, **kwargs):
        if kwargs["module"] is None:
            return next_creator(**kwargs)
        return tc.variable(torch.full(kwargs["shape"], 2.0), name="mine", constraint="non_neg")

    with tc.creator_scope(creator):
        layer = nn.Linear(2, 2)
    assert (layer.weight == 2.0).all()
    assert tc.spec_of(layer.weight).constraint is not None


# Reparametrising


def legacy_weight_norm(module, name):
    """The older weight_norm, which torch has deprecated but kept."""
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(module, name)


REPARAMETRISATIONS = {
    "weight_norm": (parametrizations.weight_norm, parametrize.remove_parametrizations),
    "spectral_norm": (parametrizations.spectral_norm, parametrize.remove_parametrizations),
    "orthogonal": (parametrizations.orthogonal, parametrize.remove_parametrizations),
    "legacy-weight_norm": (legacy_weight_norm, nn.utils.remove_weight_norm),
    "legacy-spectral_norm": (nn.utils.spectral_norm, nn.utils.remove_spectral_norm),
}


@pytest.mark.parametrize(("apply", "remove"), REPARAMETRISATIONS.values(), ids=REPARAMETRISATIONS)
@pytest.mark.parametrize(
    ("kind", "name"), [(nn.Linear, "weight"), (nn.RNN, "weight_hh_l0")], ids=["linear", "rnn"]
)
def test_reparametrising_makes_nothing(ledger, kind, name, apply, remove):
    """Neither the pieces of a normalised weight nor the weight that comes back pass creators."""
    module = kind(3, 3)
    with tc.creator_scope(ledger), tc.creator_scope(constant(0.0)):
        apply(module, name)
        assert name not in dict(module.named_parameters())
        remove(module, name)
    assert ledger.names == []
    assert getattr(module, name).abs().sum() > 0


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
@pytest.mark.parametrize(
    "apply", [r[0] for r in REPARAMETRISATIONS.values()], ids=REPARAMETRISATIONS
)
def test_the_pieces_of_a_weight_have_its_policies(apply, inside):
    """An original keeps the whole spec; the parts of a weight keep all but its constraint."""
    with tc.creator_scope(changed(aggregation="sum", constraint="non_neg", tags={"lr": 2})):
        layer = nn.Linear(3, 3, bias=False)
        if inside:
            apply(layer, "weight")
    if not inside:
        apply(layer, "weight")
    whole = "weight_norm" not in getattr(apply, "__name__", "")
    pieces = list(layer.parameters())
    assert len(list(tc.named_specs(layer))) == len(pieces) == (1 if whole else 2)
    for piece in pieces:
        spec = tc.spec_of(piece)
        assert spec.aggregation is tc.VariableAggregation.SUM
        assert spec.tags == {"lr": 2}
        assert (spec.constraint is not None) is whole


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_an_unflattened_export_makes_nothing(ledger):
    """The modules that torch.export makes of a graph hold what the exported module held."""
    model = nn.Sequential(nn.Linear(2, 2))
    exported = torch.export.export(model, (torch.ones(1, 2),))
    with tc.creator_scope(ledger), tc.creator_scope(constant(0.0)):
        again = torch.export.unflatten(exported)
    assert ledger.calls == []
    assert torch.equal(again(torch.ones(1, 2)), model(torch.ones(1, 2)))


def test_fusing_makes_nothing(ledger):
    """A fused module holds values computed from those of its parts, whatever creators say."""
    convolution, norm = nn.Conv2d(1, 2, 1).eval(), nn.BatchNorm2d(2).eval()
    with tc.creator_scope(ledger), tc.creator_scope(constant(0.0)):
        fused = nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)
    assert ledger.calls == []
    assert fused.weight.abs().sum() > 0


def test_copies_never_pass_creators(ledger):
    """Of a TransformerEncoder's twelve layers the prototype passes; the copies have its specs."""
    with tc.creator_scope(ledger), tc.creator_scope(changed(aggregation="sum", trainable=False)):
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        encoder = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
    assert len(ledger.calls) == 12
    specs = {name: spec for name, _, spec in tc.named_specs(encoder)}
    assert len(specs) == 144
    assert {spec.aggregation for spec in specs.values()} == {tc.VariableAggregation.SUM}
    assert {p.requires_grad for p in encoder.parameters()} == {False}
    for name, p, spec in tc.named_specs(layer):
        assert p is not encoder.get_parameter(f"layers.11.{name}")
        assert specs[f"layers.11.{name}"] == spec


def test_a_subclass_of_parameter_is_adopted():
    """A module whose parameters are of a class of its own keeps them, valued or not."""

    class Mine(nn.Parameter):
        pass

    class Special(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = Mine(torch.zeros(2))
            self.v = Mine(torch.zeros(2))
            nn.init.ones_(self.w)

    with tc.creator_scope(changed(aggregation="sum")):
        module = Special()
    assert type(module.w) is Mine
    assert module.w.tolist() == [1.0, 1.0]
    with tc.creator_scope(constant(5.0)):
        module = Special()
    assert type(module.w) is Mine
    assert module.w.tolist() == [5.0, 5.0]
