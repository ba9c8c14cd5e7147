"""What creators see of a build, and what they can do to it."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import torchcreator as tc
from tests.build.same import tensors_of
from tests.support import torchscript
from torchcreator._build.build import build
from torchcreator._errors import CreatorResultError


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 5)
        self.head.weight = self.embed.weight
        self.norm.bias.requires_grad_(False)


def passing(change):
    """A creator that changes the keywords of every variable by ``change(kwargs)``."""

    def creator(next_creator, **kwargs):
        change(kwargs)
        return next_creator(**kwargs)

    return creator


def test_what_they_see():
    """Each parameter once, in order, with full name, owner, shape, dtype, device and value."""
    seen = []
    with tc.creator_scope(passing(seen.append)):
        torch.manual_seed(0)
        model = build(Tied)
    torch.manual_seed(0)
    plain = dict(Tied().named_parameters())
    assert [kwargs["name"] for kwargs in seen] == list(plain)
    for kwargs in seen:
        parameter = plain[kwargs["name"]]
        assert kwargs["shape"] == parameter.shape
        assert kwargs["dtype"] == parameter.dtype
        assert kwargs["device"] == torch.device("cpu")
        assert kwargs["trainable"] is (None if parameter.requires_grad else False)
        assert kwargs["module"] is model.get_submodule(kwargs["name"].rpartition(".")[0])
        assert set(kwargs) == set(tc.VariableKwargs.__annotations__)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("wrap", [torch.compile, checkpoint_wrapper])
@pytest.mark.parametrize("later", [False, True], ids=["built", "deferred"])
def test_names_are_those_without_torchs_wrappings(wrap, later):
    """Patterns meet, and seeds give, the same in what torch has wrapped."""
    names = []

    def factory():
        return nn.Sequential(wrap(nn.Linear(2, 2)), nn.Linear(2, 2, bias=False))

    model = tc.defer(factory) if later else None
    with tc.creator_scope(passing(lambda kwargs: names.append(kwargs["name"]))):
        build(factory) if model is None else tc.materialize(model)
    assert names == ["0.weight", "0.bias", "1.weight"]
    bare = build(lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False)), seed=0)
    for wrapped, parameter in zip(
        build(factory, seed=0).parameters(), bare.parameters(), strict=True
    ):
        assert torch.equal(wrapped, parameter)


def test_true_values_may_be_asked_for_again():
    """`initial_value` gives the same value each time it is called, each time in new memory."""

    def check(kwargs):
        first, second = kwargs["initial_value"](), kwargs["initial_value"]()
        assert torch.equal(first, second)
        assert first.data_ptr() != second.data_ptr()

    with tc.creator_scope(passing(check)):
        build(Tied)


def test_ties_stay_ties():
    """A tied parameter comes once, with all its names, and all its owners get what is made."""
    tags = {}
    with tc.creator_scope(passing(lambda kwargs: tags.update({kwargs["name"]: kwargs["tags"]}))):
        model = build(Tied)
    assert model.head.weight is model.embed.weight
    assert tags.pop("embed.weight") == {"names": ("embed.weight", "head.weight")}
    assert set(tags.values()) == {None}


def test_all_keywords_act():
    """dtype, trainable, constraint, policies and tags of a creator hold in the model."""

    def change(kwargs):
        kwargs.update(
            dtype=torch.float64,
            trainable=False,
            constraint="non_neg",
            aggregation="sum",
            tags={"a": 1},
        )

    torch.manual_seed(0)
    plain = Tied()
    torch.manual_seed(0)
    with tc.creator_scope(passing(change)):
        model = build(Tied)
    assert [spec.name for _, _, spec in tc.named_specs(model)] == list(
        dict(plain.named_parameters())
    )
    for name, parameter, spec in tc.named_specs(model):
        assert parameter.dtype == torch.float64
        assert not parameter.requires_grad
        assert torch.equal(parameter, plain.get_parameter(name).double())
        assert spec.constraint == tc.constraints.NonNeg()
        assert spec.aggregation is tc.VariableAggregation.SUM
        assert spec.tags == {"a": 1}


def test_values_may_be_wrapped():
    """`lambda: f() * 2` doubles the true value, and the generator ends as without it."""

    def double(kwargs):
        value = kwargs["initial_value"]
        kwargs["initial_value"] = lambda: value() * 2

    torch.manual_seed(0)
    plain = Tied()
    after = torch.get_rng_state()
    torch.manual_seed(0)
    with tc.creator_scope(passing(double)):
        model = build(Tied)
    assert torch.equal(torch.get_rng_state(), after)
    for name, parameter in plain.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter * 2)


def test_answers_cost_no_initialisation():
    """A creator that answers itself lets nothing be replayed, not even an impossible value."""

    def factory():
        layer = nn.Linear(2, 2)
        nn.init.normal_(layer.weight, std=-1.0)  # fails when it is replayed
        return layer

    def answer(next_creator, **kwargs):
        return nn.Parameter(torch.zeros(kwargs["shape"]))

    with tc.creator_scope(answer):
        assert build(factory, seed=0).weight.tolist() == [[0.0, 0.0]] * 2
    with tc.creator_scope(passing(lambda kwargs: kwargs.update(device="meta"))):
        assert build(factory, seed=0).weight.is_meta


def test_own_parameters_take_over():
    """A creator's own parameter replaces the old one in optimizers, lists and flat weights too."""
    made = {}

    def own(next_creator, **kwargs):
        made[kwargs["name"]] = nn.Parameter(torch.zeros(kwargs["shape"]))
        return made[kwargs["name"]]

    class Kept(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(2, 3)
            weight = self.lstm.weight_ih_l0
            self.kept = [weight]
            self.closure = lambda: weight
            self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1)

    with tc.creator_scope(own):
        model = build(Kept)
    assert model.kept[0] is made["lstm.weight_ih_l0"]
    assert model.closure() is made["lstm.weight_ih_l0"]
    assert all(a is b for a, b in zip(model.lstm._flat_weights, made.values(), strict=True))
    held = model.optimizer.param_groups[0]["params"]
    assert all(a is b for a, b in zip(held, made.values(), strict=True))
    assert model.lstm(torch.ones(1, 2))[0].abs().sum() == 0


def test_identity_of_what_the_constructor_keeps():
    """The constructor's own objects are filled: attributes, hooks and closures stay with them."""
    calls = []

    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.layer.weight.note = "kept"
            self.layer.weight.register_hook(calls.append)
            weight = self.layer.weight
            self.closure = lambda: weight
            self.data = self.layer.weight.data
            self.row = self.layer.weight.detach()[0]

    for scope in (tc.creator_scope(passing(lambda kwargs: None)), None):
        calls.clear()
        if scope is None:
            model = build(Keeping)
        else:
            with scope:
                model = build(Keeping)
        assert model.layer.weight.note == "kept"
        assert model.closure() is model.layer.weight
        assert type(model.layer.weight) is nn.Parameter
        model.layer(torch.ones(1, 2)).sum().backward()
        assert len(calls) == 1
        with torch.no_grad():
            model.layer.weight.fill_(3)
        assert model.data.tolist() == [[3.0, 3.0]] * 2
        assert model.row.tolist() == [3.0, 3.0]


def test_shared_memory_survives_creators():
    """Parameters that view one storage go on doing so through a creator that changes nothing."""

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            flat = torch.randn(6)
            self.a, self.b = nn.Parameter(flat[:3]), nn.Parameter(flat[3:])
            self.flat = flat

    with tc.creator_scope(passing(lambda kwargs: None)):
        model = build(Flat)
    with torch.no_grad():
        model.a.fill_(1)
        model.b.fill_(2)
    assert model.flat.tolist() == [1.0] * 3 + [2.0] * 3


def test_variables_inside_a_factory():
    """`variable()` in a constructor passes the creators once, at the end, with what it declared."""
    seen = []

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = tc.variable(
                nn.init.ones_, shape=(3,), constraint="non_neg", aggregation="mean", tags={"k": 1}
            )

    with tc.creator_scope(passing(seen.append)):
        model = build(lambda: nn.Sequential(Scaled()))
    (kwargs,) = seen
    assert kwargs["name"] == "0.scale"
    assert kwargs["constraint"] == tc.constraints.NonNeg()
    assert kwargs["tags"] == {"k": 1}
    spec = tc.spec_of(model[0].scale)
    assert (spec.name, spec.aggregation) == ("0.scale", tc.VariableAggregation.MEAN)
    assert model[0].scale.tolist() == [1.0] * 3
    assert tc.spec_of(build(Scaled).scale).constraint == tc.constraints.NonNeg()


def test_scope_inside_a_factory():
    """A scope that the factory opens acts at its place; those outside act at the end."""
    order = []

    def factory():
        with tc.creator_scope(passing(lambda kwargs: order.append(("in", kwargs["name"])))):
            return nn.Linear(2, 2, bias=False)

    with tc.creator_scope(passing(lambda kwargs: order.append(("out", kwargs["name"])))):
        build(factory)
    assert order == [("in", "weight"), ("out", "weight")]


def test_wrong_results():
    """What is no parameter, or has another shape, is an error with the full name."""
    with (
        tc.creator_scope(lambda next_creator, **kwargs: torch.ones(1)),
        pytest.raises(CreatorResultError, match=r"returned tensor\(\[1\.\]\) for 'embed\.weight'"),
    ):
        build(Tied)
    with (
        tc.creator_scope(passing(lambda kwargs: kwargs.update(initial_value=[1.0], shape=None))),
        pytest.raises(CreatorResultError, match=r"'embed\.weight' another shape(.|\n)*\(5, 3\)"),
    ):
        build(Tied)


def test_garbage_collection_in_a_constructor():
    """Objects are found even where the constructor collects garbage."""

    def factory():
        layer = nn.Linear(2, 2)
        layer.plain = layer.weight.detach()
        gc.collect()
        return layer

    model = build(factory)
    assert not model.plain.is_meta
    assert gc.isenabled()
    assert all(not tensor.is_meta for tensor in tensors_of(model).values())


def test_a_scripted_part_does_not_keep_other_specs_from_being_found():
    """A scripted module's parameters live in C++: it has no table, and lookups go on."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.scripted = torchscript.script(nn.Linear(2, 3))
            self.gain = tc.variable([1.0], name="gain")

    model = tc.build(Mixed)
    assert [name for name, _, _ in tc.named_specs(model)] == ["gain"]
    assert tc.spec_of(model.gain).name == "gain"
