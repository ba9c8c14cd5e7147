"""A stock module's own parameter is kept, converted where a creator asks for it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.modules.creators import Own, changed, constant
from torchcreator._torch.dispatch import dispatch_stack_depth

# Adoption


def test_the_modules_own_parameter_object_is_adopted():
    """Where only policies changed, the object, its attributes, hooks and value stay."""
    with tc.creator_scope(changed(aggregation="sum", tags={"lr": 2})):
        module = Own()
    (made,) = module.made
    assert module.w is made
    assert type(made) is nn.Parameter
    assert made.note == "mine"
    assert made.tolist() == [[5.0] * 3] * 2
    made.sum().backward()
    assert made.grad.tolist() == [[-1.0] * 3] * 2
    assert tc.spec_of(made).aggregation is tc.VariableAggregation.SUM
    assert tc.spec_of(made).tags == {"lr": 2}


def test_adoption_copies_nothing():
    """The adopted parameter keeps its memory."""

    class Noting(nn.Module):
        def __init__(self):
            super().__init__()
            made = nn.Parameter(torch.zeros(2))
            self.address = made.data_ptr()
            self.w = made

    with tc.creator_scope(changed(constraint="non_neg")):
        module = Noting()
    assert module.w.data_ptr() == module.address


@pytest.mark.parametrize("trainable", [True, False])
def test_a_creator_decides_trainable(trainable):
    """``trainable`` becomes the module's parameter's ``requires_grad``, either way."""
    with tc.creator_scope(changed(trainable=trainable)):
        module = Own(requires_grad=not trainable)
    assert module.w.requires_grad is trainable
    assert module.w is module.made[0]


def test_the_object_is_kept_when_a_creator_sets_its_value():
    """A creator's value is put into the module's own parameter object."""
    with tc.creator_scope(constant(2.0)):
        module = Own()
    assert module.w is module.made[0]
    assert module.w.note == "mine"
    assert module.w.tolist() == [[2.0] * 3] * 2


# Conversion


MODULES = {
    "linear": lambda **to: nn.Linear(4, 3, **to),
    "conv": lambda **to: nn.Conv2d(2, 3, 3, **to),
    "norm": lambda **to: nn.LayerNorm(4, **to),
    "embedding": lambda **to: nn.Embedding(5, 4, padding_idx=1, **to),
    "attention": lambda **to: nn.MultiheadAttention(4, 2, **to),
    "lstm": lambda **to: nn.LSTM(3, 2, num_layers=2, **to),
    "transformer": lambda **to: nn.TransformerEncoderLayer(4, 2, 8, **to),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_a_changed_dtype_is_the_modules_own_initialisation_in_it(make, dtype):
    """A creator that changes ``dtype`` gives, bit for bit, what the module makes in that dtype."""
    torch.manual_seed(1)
    expected = make(dtype=dtype)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    with tc.creator_scope(changed(dtype=dtype)):
        converted = make()
    assert torch.equal(torch.get_rng_state(), state)
    assert converted.state_dict().keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert converted.state_dict()[name].dtype == value.dtype
        assert torch.equal(converted.state_dict()[name], value), name


def test_conversion_pins_nothing():
    """After a conversion no dispatch mode is active: the module writes freely."""
    with tc.creator_scope(changed(dtype=torch.float64)):
        layer = nn.Linear(2, 3)
        assert dispatch_stack_depth() == 0
    assert layer.weight.dtype == torch.float64
    assert tc.spec_of(layer.weight).dtype == torch.float64


def test_a_changed_device_is_where_the_parameter_is():
    """A creator that changes ``device`` gives what the module makes on that device."""
    with tc.creator_scope(changed(device="meta")):
        layer = nn.Linear(2, 3)
    assert {p.device.type for p in layer.parameters()} == {"meta"}
    assert {p.requires_grad for p in layer.parameters()} == {True}
    assert all(tc.spec_of(p) for p in layer.parameters())


def test_a_meta_module_is_made_real_by_its_creator():
    """A parameter that its module made on meta can be moved to a device that holds values."""
    with tc.creator_scope(changed(device="cpu")):
        layer = nn.LayerNorm(3, device="meta")
    assert layer.weight.tolist() == [1.0, 1.0, 1.0]
    assert layer.bias.tolist() == [0.0, 0.0, 0.0]


def test_an_integer_dtype_freezes():
    """A parameter that becomes integer cannot have a gradient, and does not."""
    with tc.creator_scope(changed(dtype=torch.int64)):
        module = nn.LayerNorm(3)
    assert module.weight.dtype == torch.int64
    assert not module.weight.requires_grad
    assert module.weight.tolist() == [1, 1, 1]
