"""Creators that decide device and dtype."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import build
from torchcreator._torch.fakes import fake_mode, is_fake
from torchcreator.creators import cast, fake, meta, on


class InFile:
    """What can be sliced and not called, as safetensors' slices are."""

    def __init__(self, tensor):
        self._tensor = tensor

    def get_shape(self):
        return list(self._tensor.shape)

    def __getitem__(self, index):
        return self._tensor[index]


BOTH = pytest.mark.parametrize("make", [lambda f, *args: f(*args), build], ids=["scope", "build"])


def test_a_device_is_passed_on():
    """``on`` puts stock parameters and values where it says."""
    with tc.creator_scope(on("meta")):
        layer = nn.Linear(2, 3)
        gain = tc.variable([1.0, 2.0])
    assert {p.device.type for p in (*layer.parameters(), gain)} == {"meta"}
    with tc.creator_scope(on("cpu")):
        assert nn.Linear(2, 3, device="meta").weight.device.type == "cpu"


def test_a_device_that_is_not_there_is_an_error_with_the_name():
    """The error names the variable and the device."""
    with (
        tc.creator_scope(on("xla:7")),
        pytest.raises(ValueError, match=r"device of variable 'Linear.weight' is 'xla:7'"),
    ):
        nn.Linear(2, 3)


def test_a_cast_module_is_the_one_made_in_that_dtype():
    """``cast`` around a module equals ``dtype=``, bit for bit."""
    torch.manual_seed(0)
    with tc.creator_scope(cast(torch.bfloat16)):
        ours = nn.Linear(7, 5)
    torch.manual_seed(0)
    theirs = nn.Linear(7, 5, dtype=torch.bfloat16)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


def test_a_cast_build_is_the_model_converted():
    """Under ``build``, ``cast`` equals making the model and converting it."""
    torch.manual_seed(0)
    with tc.creator_scope(cast(torch.bfloat16)):
        ours = build(nn.Linear, 7, 5)
    torch.manual_seed(0)
    theirs = nn.Linear(7, 5).to(torch.bfloat16)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


VALUES = {
    "float": (1.5, torch.float16),
    "floats": ([1.0, 2.0], torch.float16),
    "tensor": (torch.ones(2), torch.float16),
    "double": (torch.ones(2, dtype=torch.float64), torch.float16),
    "with a gradient": (torch.ones(2, requires_grad=True), torch.float16),
    "callable": (lambda: torch.ones(2), torch.float16),
    "callable of floats": (lambda: [1.0, 2.0], torch.float16),
    "callable array": (lambda: np.ones(2), torch.float16),
    "array": (np.ones(2), torch.float16),
    "integer array": (np.ones(2, dtype=np.int16), torch.int16),
    "in a file": (InFile(torch.ones(2)), torch.float16),
    "integers in a file": (InFile(torch.ones(2, dtype=torch.int8)), torch.int8),
    "integers": ([1, 2], torch.int64),
    "bool": (True, torch.bool),
    "integer tensor": (torch.ones(2, dtype=torch.int8), torch.int8),
    "integer callable": (lambda: torch.ones(2, dtype=torch.int8), torch.int8),
    "complex": (1j, torch.complex64),
}


@pytest.mark.parametrize("value", VALUES)
def test_floating_values_are_cast(value):
    """Floating values take the dtype; others keep theirs."""
    given, expected = VALUES[value]
    with tc.creator_scope(cast(torch.float16)):
        assert tc.variable(given).dtype == expected


def test_declared_dtypes_are_cast():
    """A declared floating dtype is replaced, and an initialiser draws in the new one."""
    with tc.creator_scope(cast(torch.float64)):
        declared = tc.variable(torch.ones(2), dtype=torch.float32)
        filled = tc.variable(nn.init.normal_, shape=(3,))
    assert declared.dtype == filled.dtype == torch.float64
    assert (filled != filled.float().double()).any()  # drawn in double, not converted to it


@pytest.mark.parametrize("dtype", [torch.int32, "bfloat16", None], ids=["integer", "str", "none"])
def test_a_cast_goes_to_a_floating_dtype(dtype):
    """Anything else is an error where it is written."""
    with pytest.raises(TypeError, match="cast got"):
        cast(dtype)


def test_a_wrong_value_is_the_default_creators_error():
    """``cast`` leaves a ragged list to the error that names the variable."""
    with (
        tc.creator_scope(cast(torch.float16)),
        pytest.raises(tc.TorchCreatorError, match=r"variable 'w' is \[\[1\.0\]"),
    ):
        tc.variable([[1.0], [1.0, 2.0]], name="w")


@BOTH
def test_meta_has_no_value(make):
    """``meta`` makes shapes and dtypes only."""
    with tc.creator_scope(meta()):
        layer = make(nn.LSTM, 4, 3)
    assert {p.device.type for p in layer.parameters()} == {"meta"}
    assert layer.weight_ih_l0.shape == (12, 4)


def test_meta_calls_no_value_on_a_real_device():
    """A callable value runs on meta, so nothing is paid for what is thrown away."""
    devices = []

    def value():
        made = torch.randn(3)
        devices.append(made.device.type)
        return made

    with tc.creator_scope(meta()):
        assert tc.variable(value).shape == (3,)
    assert devices == ["meta"]


@BOTH
def test_a_fake_model_runs_and_has_no_memory(make):
    """A fake model gives fake results of the right shape, and keeps its specs."""
    with tc.creator_scope(fake()):
        model = make(FakeNet)
    assert all(is_fake(p) for p in model.parameters())
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())
    assert [name for name, _, _ in tc.named_specs(model)] == ["gain", "layer.weight", "layer.bias"]
    assert model(torch.ones(2, 4)).shape == (2, 3)


class FakeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.gain = tc.variable(nn.init.ones_, shape=(3,), name="gain")

    def forward(self, x):
        return self.layer(x) * self.gain


def test_a_fake_model_is_larger_than_this_machine():
    """Seven terabytes are built at once."""
    with tc.creator_scope(fake()):
        model = build(lambda: nn.ModuleList(nn.Linear(2**18, 2**18) for _ in range(28)), seed=0)
    assert sum(p.numel() * p.element_size() for p in model.parameters()) > 7e12


def test_a_fake_device_need_not_be_there():
    """A fake parameter may be on a GPU that this machine has not."""
    with tc.creator_scope(fake()):
        gain = tc.variable([1.0], device="cuda")
    assert gain.device.type == "cuda"
    assert not gain.is_meta


def test_fakes_belong_to_the_mode_that_is_passed():
    """One's own FakeTensorMode is used."""
    mode = fake_mode()
    with tc.creator_scope(fake(mode=mode)):
        gain = tc.variable([1.0])
    assert gain.fake_mode is mode


def test_a_lazy_parameter_stays_lazy():
    """What has no shape yet cannot be fake; it is left on meta."""
    with tc.creator_scope(fake()):
        later = tc.variable(validate_shape=False)
    assert isinstance(later, nn.UninitializedParameter)


def test_a_fake_is_on_the_device_that_a_creator_further_out_wants():
    """Its value is made there too: the creator asked for the real thing."""
    devices = []

    def value():
        devices.append(torch.ones(2).device.type)
        return torch.ones(2)

    with tc.creator_scope(on("cpu")), tc.creator_scope(fake()):
        gain = tc.variable(value, device="meta", name="gain")
    assert is_fake(gain)
    assert gain.device.type == "cpu"
    assert devices == ["cpu"]


def test_what_a_creator_answers_itself_becomes_fake_without_a_declaration():
    """A parameter that no default creator made has no spec, and its fake has none either."""
    own = nn.Parameter(torch.ones(2, 3))
    with tc.creator_scope(lambda next_creator, **_: own), tc.creator_scope(fake()):
        made = tc.variable(0.0, name="gain")
    assert is_fake(made)
    assert made.shape == (2, 3)
    assert tc.spec_of(made) is None
