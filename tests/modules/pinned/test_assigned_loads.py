"""A load with ``assign=True`` brings values; what creators declare holds for them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import creators

STATE = {"weight": torch.full((3, 2), 7.0), "bias": torch.full((3,), 8.0)}


class Loading(nn.Linear):
    """Loads its weights at the end of its constructor, and may initialise them after."""

    def __init__(self, assign, state=STATE, after=None):
        super().__init__(2, 3)
        self.load_state_dict(state, assign=assign)
        if after is not None:
            after(self.weight)


def in_scope(assign):
    layer = nn.Linear(2, 3)
    layer.load_state_dict(STATE, assign=assign)
    return layer


def after_build(assign):
    layer = tc.build(nn.Linear, 2, 3)
    layer.load_state_dict(STATE, assign=assign)
    return layer


MOMENTS = {
    "in a constructor": Loading,
    "after it": in_scope,
    "in a build": lambda assign: tc.build(Loading, assign),
    "after a build": after_build,
}


def halved(next_creator, **kwargs):
    """A creator of a user's own that chooses a dtype."""
    return next_creator(**{**kwargs, "dtype": torch.float16})


POLICIES = {
    "cast": (creators.cast(torch.bfloat16), lambda p, _: p.dtype is torch.bfloat16),
    "a dtype of one's own": (halved, lambda p, _: p.dtype is torch.float16),
    "freeze": (creators.freeze(), lambda p, spec: not (p.requires_grad or spec.trainable)),
    "constrain": (creators.constrain("non_neg"), lambda _, spec: spec.constraint is not None),
    "aggregate": (creators.aggregate("sum"), lambda _, spec: spec.aggregation == "sum"),
    "local": (creators.local(), lambda _, spec: spec.synchronization == "none"),
    "declare": (creators.declare(tags={"a": 1}), lambda _, spec: spec.tags == {"a": 1}),
}


@pytest.mark.parametrize("assign", [True, False], ids=["assigned", "copied"])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_declared_holds_for_what_is_loaded(policy, moment, assign):
    """Whenever a load comes in a scope, its values land and the creators' policies hold."""
    creator, holds = POLICIES[policy]
    with tc.creator_scope(creator):
        layer = MOMENTS[moment](assign)
    assert (layer.weight == 7.0).all()
    assert holds(layer.weight, tc.spec_of(layer.weight))


@pytest.mark.parametrize("moment", ["in a constructor", "after it", "after a build"])
def test_a_value_of_a_creator_does_not_come_back_with_its_dtype(moment):
    """Asked about the dtype of what is loaded, a creator's value or parameter is not taken."""

    def ones(next_creator, **kwargs):
        return next_creator(**{**kwargs, "initial_value": torch.ones(kwargs["shape"])})

    def own(next_creator, **kwargs):
        return nn.Parameter(torch.zeros_like(next_creator(**kwargs)))

    for creator in (ones, creators.initialize(nn.init.ones_), own):
        with tc.creator_scope(creators.cast(torch.float64)):
            layer = MOMENTS[moment](True)
            with tc.creator_scope(creator):
                layer.load_state_dict(STATE, assign=True)
        assert (layer.weight == 7.0).all()
        assert layer.weight.dtype is torch.float64


def test_no_declaration_keeps_the_dtype_of_a_file():
    """Where no creator wants another dtype or device, the file's stay, as torch says."""
    state = {name: value.bfloat16() for name, value in STATE.items()}
    with tc.creator_scope(creators.freeze()):
        layer = Loading(True, state)
    assert layer.weight.dtype is torch.bfloat16
    assert layer.weight.data_ptr() == state["weight"].data_ptr()
    outside = nn.Linear(2, 3)
    with tc.creator_scope(creators.cast(torch.float16)):
        outside.load_state_dict(state, assign=True)  # made before the scope
    assert outside.weight.dtype is torch.bfloat16


def test_a_load_after_the_scope_is_torchs():
    """Whoever loads by assignment later means the file's dtype."""
    with tc.creator_scope(creators.cast(torch.float16)):
        layer = nn.Linear(2, 3)
    layer.load_state_dict(STATE, assign=True)
    assert layer.weight.dtype is torch.float32


def test_the_callers_state_dict_is_left_alone():
    """A parameter of the caller's that is cast is cast in the module only."""
    state = {name: nn.Parameter(value.clone()) for name, value in STATE.items()}
    with tc.creator_scope(creators.cast(torch.float16)):
        layer = Loading(True, state)
    assert layer.weight.dtype is torch.float16
    assert state["weight"].dtype is torch.float32


def test_meta_is_filled_in_the_dtype_of_the_cast():
    """On the meta device a loaded value would be lost; the file's device is taken, and the cast."""
    with tc.creator_scope(creators.meta(), creators.cast(torch.bfloat16)):
        layer = nn.Linear(2, 3)
        layer.load_state_dict(STATE, assign=True)
    assert layer.weight.device.type == "cpu"
    assert layer.weight.dtype is torch.bfloat16


def test_a_device_that_was_chosen_is_kept():
    """What a file brings without memory is put where creators put it."""
    meta = {name: value.to("meta") for name, value in STATE.items()}
    with tc.creator_scope(creators.on("cpu")):
        layer = Loading(True, meta)
    assert layer.weight.device.type == "cpu"


def test_integers_of_a_quantised_file_are_not_cast():
    """Cast is for floating variables, of a load too."""
    state = {"weight": torch.ones(3, 2, dtype=torch.int8), "bias": STATE["bias"]}
    with tc.creator_scope(creators.cast(torch.float16), creators.freeze()):
        layer = Loading(True, state)
    assert layer.weight.dtype is torch.int8
    assert layer.bias.dtype is torch.float16


def test_variables_and_copies_too():
    """A `variable`, and the layers that an encoder copies from the first."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = tc.variable([1.0], name="gain")
            layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            state = {name: p.detach().float() for name, p in self.named_parameters()}
            self.load_state_dict(state, assign=True)

    with tc.creator_scope(creators.cast(torch.bfloat16, name=["gain", "in_proj_weight"])):
        model = Model()
    kinds = {name: p.dtype for name, p in model.named_parameters()}
    assert kinds["gain"] is torch.bfloat16
    assert kinds["encoder.layers.1.self_attn.in_proj_weight"] is torch.bfloat16
    assert kinds["encoder.layers.1.linear1.weight"] is torch.float32


@pytest.mark.parametrize("assign", [True, False], ids=["assigned", "copied"])
def test_a_constructor_that_initialises_after_its_load_is_dropped(assign):
    """In a scope whose creator set the value, what the load brought stays, however it came."""
    with tc.creator_scope(creators.initialize(nn.init.ones_)):
        state = {name: value.clone() for name, value in STATE.items()}
        layer = Loading(assign, state, nn.init.zeros_)
    assert (layer.weight == 7.0).all()


def test_the_pieces_of_a_parametrized_weight():
    """They inherit what the weight was declared to be, and keep it when they are loaded."""
    with tc.creator_scope(creators.cast(torch.bfloat16)):
        layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
        state = {name: p.float() for name, p in layer.state_dict().items()}
        layer.load_state_dict(state, assign=True)
    assert {p.dtype for p in layer.parameters()} == {torch.bfloat16}


def test_a_variable_in_a_scope_without_modules():
    """A scope that leaves stock modules alone is asked about its variables, and no others."""

    class Gain(nn.Linear):
        def __init__(self):
            super().__init__(2, 3)
            self.gain = tc.variable([1.0], name="gain")
            state = {"gain": torch.ones(1), **STATE}
            self.load_state_dict({name: p.double() for name, p in state.items()}, assign=True)

    with tc.creator_scope(creators.cast(torch.bfloat16), modules=False):
        module = Gain()
    assert module.gain.dtype is torch.bfloat16
    assert module.weight.dtype is torch.float64


@pytest.mark.parametrize("creator", [creators.forbid, creators.share], ids=["forbid", "share"])
def test_who_watches_what_is_made_lets_a_load_pass(creator):
    """It makes no variable, and none of the same name again."""
    with tc.creator_scope(creators.cast(torch.bfloat16)):
        with tc.creator_scope(creators.share()):
            layer = nn.Linear(2, 3)
        with tc.creator_scope(creator()):
            layer.load_state_dict(STATE, assign=True)
    assert layer.weight.dtype is torch.bfloat16
    assert (layer.weight == 7.0).all()
