"""What cannot be done to a deferred model is told, and leaves it as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.build.edited import COPIES, Layer, Net, assert_same
from torchcreator._build.build import build, defer
from torchcreator._build.materialize import materialize
from torchcreator._errors import BuildError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture
def model():
    return defer(Net, seed=0)


@pytest.fixture(scope="module")
def whole():
    return build(Net, seed=0)


def write(model):
    with torch.no_grad():
        model.layers[1].linear.weight.mul_(2)


def load(model):
    model.load_state_dict({"layers.1.linear.weight": torch.ones(4, 4)}, strict=False)


def init(model):
    model.layers[1].linear.reset_parameters()


def lora(model):
    model.layers[1].linear.adapter = nn.Linear(4, 2, device="meta")


def exchange(model):
    model.layers[1].linear.weight.data = model.layers[1].linear.weight.data * 2


def buffer(model):
    model.layers[1].table = model.layers[1].table * 2


def zeros(model):
    model.layers[1].linear.weight = nn.Parameter(torch.zeros(4, 4, device="meta"))


def written_in_a_list(model):
    model.layers[1].kept[0].zero_()


def emptied_and_loaded(model):
    model.to_empty(device="cpu")
    model.load_state_dict(build(Net, seed=1).state_dict())


def of_another(model):
    model.layers[1].linear.weight = defer(nn.Linear, 4, 4).weight


TOLD = {
    "a write": (write, r"'layers\.1\.linear\.weight' was written to since(.|\n)*in the factory"),
    "loading into it": (load, r"'layers\.1\.linear\.weight' was written to since"),
    "init": (init, r"'layers\.1\.linear\.weight' was written to since"),
    "apply": (
        lambda m: m.apply(lambda x: isinstance(x, Layer) and init(m)),
        "was written to since",
    ),
    "a write in a list": (written_in_a_list, "was written to since"),
    "an adapter": (
        lora,
        r"'layers\.1\.linear\.adapter\.weight' is on the meta device, and was add",
    ),
    "weight_norm": (
        lambda m: nn.utils.parametrizations.weight_norm(m.layers[1].linear),
        r"'layers\.1\.linear\.parametrizations\.weight\.original0' is on the meta device",
    ),
    "old weight_norm": (
        lambda m: nn.utils.weight_norm(m.layers[1].linear),
        r"'layers\.1\.linear\.weight_g' is on the meta device, and was added since",
    ),
    "a forward": (lambda m: setattr(m, "cache", m.embed.weight * 2), "'cache' is on the meta dev"),
    "data": (exchange, r"What 'layers\.1\.linear\.weight' holds was exchanged since"),
    "a buffer computed": (buffer, r"'layers\.1\.table' is on the meta device, and was added"),
    "a parameter computed": (zeros, r"'layers\.1\.linear\.weight' is on the meta device, and was"),
    "to_empty": (lambda m: m.to_empty(device="cpu"), r"has memory already, on cpu: to_empty\(\)"),
    "to_empty on meta": (
        lambda m: m.to_empty(device="meta"),
        r"What 'embed\.weight' holds was exchanged since",
    ),
    "to_empty, then loaded": (emptied_and_loaded, r"'embed\.weight' has memory already"),
    "a part: to_empty": (
        lambda m: m.layers[1].to_empty(device="cpu"),
        r"'layers\.1\.linear\.weight' has memory already(.|\n)*materialize\(model, device=...\)",
    ),
    "another model's": (of_another, r"'layers\.1\.linear\.weight' comes from another deferred"),
}


@pytest.mark.parametrize("taken", COPIES)
@pytest.mark.parametrize("name", TOLD)
def test_told(name, taken, model, whole):
    """What cannot be followed is an error that names it; what is left works when it is gone."""
    change, message = TOLD[name]
    model = taken(model)
    change(model)
    with pytest.raises(BuildError, match=message):
        materialize(model)
    if not name.startswith("to_empty"):
        assert model.layers[2].linear.weight.is_meta
        assert_same(materialize(model.layers[2]), whole.layers[2])


def test_moved_to_a_device(model, whole):
    """It is torch that refuses, and the model waits as before."""
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        model.to("cpu")
    assert_same(materialize(model, device="cpu").layers[2], whole.layers[2])


def test_emptied_and_assigned(model):
    """What is assigned after `to_empty` is kept, as it is without."""
    other = build(Net, seed=1)
    model.to_empty(device="cpu")
    model.load_state_dict(other.state_dict(), assign=True)
    materialize(model)
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("change", [write, exchange], ids=["a write", "an exchange"])
def test_told_in_copies_of_it(model, change):
    """What was done to a model is not forgotten because it is copied after that."""
    change(model)
    with pytest.raises(BuildError, match=r"(was written to|holds was exchanged) since"):
        materialize(copy.deepcopy(model))


def test_left_as_it_was_when_a_creator_fails(model, whole):
    """An error in the middle leaves the model deferred, with nothing declared, and usable."""

    def own(next_creator, **kwargs):
        if kwargs["name"] == "layers.2.linear.weight":
            message = "no"
            raise ValueError(message)
        made = next_creator(**{**kwargs, "constraint": "non_neg", "trainable": False})
        return nn.Parameter(made.detach().clone()) if "layers.1" in kwargs["name"] else made

    parameters = list(model.parameters())
    with tc.creator_scope(own), pytest.raises(ValueError, match="no"):
        materialize(model)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert list(tc.named_specs(model)) == []
    materialize(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    for layer, expected in zip(model.layers, whole.layers, strict=True):
        assert_same(layer, expected)
