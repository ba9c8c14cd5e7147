"""A replay computes as under the default dtype of its time, and sets none: it is the process's."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from tests.build.same import assert_builds_same
from torchcreator import build
from torchcreator._errors import BuildError


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Computed(nn.Module):
    """Holds what a function makes under another default dtype."""

    def __init__(self, make, dtype):
        super().__init__()
        with default_dtype(dtype):
            self.register_buffer("made", make(torch.arange(1, 600)))
            self.layer = nn.Linear(2, 2)


# What is made of integers alone: nothing but the default dtype says in which floats.
MADE = {
    "quotient": lambda n: n / n.flip(0),
    "quotient by a number": lambda n: n / 7,
    "times a number": lambda n: n * 0.3,
    "number to the power": lambda n: 1.01**n,
    "root": torch.sqrt,
    "logarithm of a mask": lambda n: torch.log1p(n > 300),
    "angle of two": lambda n: torch.atan2(n, n.flip(0)),
    "comparison with a number": lambda n: n > 256.6,
    "Fourier transform": torch.fft.fft,
    "complex number": lambda n: n * 1j,
    "comparison with a complex number": lambda n: n == 257 + 0j,
    "doubles whatever it is": lambda n: torch.float_power(n, 0.5),
    "comparison of integers": lambda n: n > 257,
    "chosen": lambda n: torch.where(n > 300, n, 0.1),
    "chosen numbers": lambda n: torch.where(n > 300, 0.3, 0.1),
    "between numbers": lambda n: torch.clamp(n, 0.3, 256.6),
    "converted": lambda n: (n * 16777217).to(torch.float64),
    "integers": lambda n: n // 7,
    "padded": lambda n: nn.functional.pad(n > 3, (1, 1), value=1.0),
    "means": lambda n: (n / 3).mean() + n.cumsum(0),
    "distribution": lambda n: torch.normal(0.0, 1.0, (5,)),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["float64", "bfloat16"])
@pytest.mark.parametrize("make", MADE.values(), ids=MADE.keys())
def test_it_computes_as_then(make, dtype):
    """What integers become depends on the default dtype of the constructor, not of the replay."""
    if dtype is torch.bfloat16 and make in (MADE["Fourier transform"], MADE["complex number"]):
        dtype = torch.float64  # there is no such transform in bfloat16; on the number see below
    assert_builds_same(lambda: Computed(make, dtype))


@pytest.mark.filterwarnings("ignore:BComplex32 support is experimental:UserWarning")  # once each
def test_a_complex_number_in_bfloat16():
    """Integers times one are complex64; where meta says otherwise (torch >= 2.14), it is told."""
    make = MADE["complex number"]
    if torch.__version__ < (2, 14):
        assert_builds_same(lambda: Computed(make, torch.bfloat16))
        return
    with pytest.raises(BuildError, match=r"it gives torch\.complex64"):
        build(Computed, make, torch.bfloat16)


@pytest.mark.parametrize("seed", [None, 0], ids=["exact", "seeded"])
def test_a_replay_sets_no_default_dtype(seed, monkeypatch):
    """Only the constructor's own calls set it: another thread would see any other."""
    set_to = []
    original = torch.set_default_dtype
    monkeypatch.setattr(torch, "set_default_dtype", lambda d: (set_to.append(d), original(d)))
    model = build(Computed, MADE["quotient"], torch.float64, seed=seed)
    assert set_to == [torch.float64, torch.float32]
    assert model.made.dtype is torch.float64
    assert model.layer.weight.dtype is torch.float64


def test_what_has_no_other_way_is_told():
    """A result of another dtype than the constructor's is an error, not another value."""

    def factory():
        module = nn.Module()
        with default_dtype(torch.float64):
            module.register_buffer("made", torch.ops.tests_default_dtype.ones(torch.ones(2)))
        return module

    with torch.library._scoped_library("tests_default_dtype", "DEF") as library:
        library.define("ones(Tensor like) -> Tensor")
        library.impl("ones", lambda like: torch.ones(2), "CPU")
        library.impl("ones", lambda like: torch.ones(2, device="meta"), "Meta")
        with pytest.raises(BuildError, match=r"gives torch\.float32, as the default dtype is"):
            build(factory)
