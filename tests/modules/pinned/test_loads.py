"""A load lands, wherever it happens: whoever loads weights means them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.modules.pinned.writes import constant
from torchcreator.creators import initialize

STATE = {"weight": torch.full((3, 2), 7.0), "bias": torch.full((3,), 8.0)}


class Loading(nn.Linear):
    """Loads its weights at the end of its constructor."""

    def __init__(self, **how):
        super().__init__(2, 3)
        self.load_state_dict(STATE, **how)


class Around(nn.Module):
    """Loads the weights of a part."""

    def __init__(self):
        super().__init__()
        self.part = nn.Linear(2, 3)
        self.head = nn.Linear(3, 1)
        self.load_state_dict({f"part.{name}": value for name, value in STATE.items()}, strict=False)


class Own(nn.Linear):
    """Copies what it is given by itself, as quantising layers do."""

    def __init__(self):
        super().__init__(2, 3)
        self.load_state_dict(STATE)

    def _load_from_state_dict(self, state_dict, prefix, *_):
        with torch.no_grad():
            self.weight.copy_(state_dict[f"{prefix}weight"])
            self.bias.data.copy_(state_dict[f"{prefix}bias"])


MAKES = {
    "copied": Loading,
    "assigned": lambda: Loading(assign=True),
    "a part": lambda: Around().part,
    "a class of its own": Own,
    "nested": lambda: nn.Sequential(Loading())[0],
}


@pytest.mark.parametrize("creator", [constant(5.0), initialize(nn.init.ones_)], ids=["own", "ours"])
@pytest.mark.parametrize("name", MAKES)
def test_a_load_in_a_constructor_lands(name, creator):
    """What a constructor loads stays, in a scope whose creator sets values too."""
    with tc.creator_scope(creator):
        layer = MAKES[name]()
    assert torch.equal(layer.weight, STATE["weight"])
    assert torch.equal(layer.bias, STATE["bias"])


def test_what_is_initialised_beside_a_load_is_the_creators():
    """The parameters that the load leaves alone have the creator's value."""
    with tc.creator_scope(constant(5.0)):
        model = Around()
    assert (model.head.weight == 5.0).all()


def test_a_constructor_that_initialises_after_its_load_is_dropped():
    """Only the load itself lands."""

    class Then(Loading):
        def __init__(self):
            super().__init__()
            nn.init.zeros_(self.weight)

    with tc.creator_scope(constant(5.0)):
        layer = Then()
    assert torch.equal(layer.weight, STATE["weight"])


def put(module):
    """Put loaded weights in the place of a module's, as transformers and accelerate do."""
    for name, value in STATE.items():
        setattr(module, name, nn.Parameter(value.clone()))


class Replaced(nn.Module):
    """Loads the weights of a part by assigning them."""

    def __init__(self):
        super().__init__()
        self.part = nn.Linear(2, 3)
        put(self.part)


@pytest.mark.parametrize("inside", [True, False], ids=["in a constructor", "after it"])
def test_weights_that_are_put_in_the_place_of_others_stay(inside):
    """A library that loads by assignment means its values; what else is declared holds for them."""
    with tc.creator_scope(initialize(nn.init.ones_), tc.creators.freeze()):
        if inside:
            layer = Replaced().part
        else:
            put(layer := nn.Linear(2, 3))
    assert torch.equal(layer.weight, STATE["weight"])
    assert not layer.weight.requires_grad


def test_a_constructor_that_exchanges_its_own_parameter_initialises_it():
    """That is how its class initialises, and the creator's value takes its place."""

    class Exchanging(nn.Linear):
        def __init__(self):
            super().__init__(2, 3)
            self.weight = nn.Parameter(torch.zeros(3, 2))

    with tc.creator_scope(initialize(nn.init.ones_)):
        assert (Exchanging().weight == 1).all()


def test_from_pretrained_keeps_what_it_loads(tmp_path):
    """In a scope that initialises, transformers' own loader wins, alone and in a constructor."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=8, vocab_size=10, n_positions=4, bos_token_id=0, eos_token_id=0
    )
    trained = transformers.GPT2Model(config)
    trained.save_pretrained(tmp_path)

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = transformers.GPT2Model.from_pretrained(tmp_path)
            self.head = nn.Linear(8, 2)

    with tc.creator_scope(initialize(nn.init.ones_)):
        model, alone = Classifier(), transformers.GPT2Model.from_pretrained(tmp_path)
    for loaded in (model.body, alone):
        for one, other in zip(loaded.parameters(), trained.parameters(), strict=True):
            assert torch.equal(one, other)
    assert (model.head.weight == 1).all()
