"""Autocast computes in other dtypes than it is asked to, which tensors on meta do not show."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchcreator as tc
from tests.build.same import assert_builds_same


class Computing(nn.Module):
    """A module with what a function makes of its weight."""

    def __init__(self, compute):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        with torch.no_grad():
            self.register_buffer("made", compute(self.layer.weight))
        nn.init.normal_(self.layer.bias)


def inside(compute):
    """Return the function computed under autocast."""
    return torch.autocast("cpu", torch.bfloat16)(compute)


def lstm(w):
    layer = nn.LSTM(4, 2, batch_first=True)
    return layer(w[None])[0]


WAYS = {
    "matrix product": lambda w: w @ w,
    "linear": lambda w: F.linear(w, w, w[0]),
    "convolution": lambda w: nn.Conv1d(4, 2, 3)(w[None]),
    "einsum": lambda w: torch.einsum("ij,jk->ik", w, w),
    "vector": lambda w: torch.mv(w, w[0]),
    "attention": lambda w: F.scaled_dot_product_attention(w[None], w[None], w[None]),
    "lstm": lstm,
    "what follows": lambda w: torch.prod((w @ w).softmax(0), 0),
    "raised": lambda w: torch.cdist(w.bfloat16(), w.bfloat16()),
    "elementwise": lambda w: (w + 1).exp() / 3,
    "written": lambda w: torch.zeros(4, 4).addmm_(w, w),
    "off inside": torch.autocast("cpu", enabled=False)(lambda w: w @ w),
}


@pytest.mark.parametrize("where", ["inside", "around"])
@pytest.mark.parametrize("way", WAYS)
def test_it_computes_as_the_constructor_did(way, where):
    """In a constructor, or around the build: dtypes, values and the generator's state are equal."""
    if where == "inside":
        assert_builds_same(lambda: Computing(inside(WAYS[way])))
    else:
        inside(assert_builds_same)(lambda: Computing(WAYS[way]))


@pytest.mark.parametrize("way", [way for way in WAYS if way != "raised"])  # not without autocast
def test_what_is_made_later_is_not_cast(way):
    """Autocast that is on where a deferred model is materialized computes nothing in it."""
    torch.manual_seed(0)
    plain = Computing(WAYS[way])
    torch.manual_seed(0)
    deferred = tc.defer(Computing, WAYS[way])
    made = inside(tc.materialize)(deferred).made
    assert made.dtype == plain.made.dtype
    assert torch.equal(made, plain.made)


def test_what_has_drawn_is_told():
    """A call that drew before autocast mattered cannot be made again on values."""
    told = "mm under torch.autocast of Computing's 'layer.weight' cannot be recorded"
    with pytest.raises(tc.BuildError, match=re.escape(told)):
        tc.build(Computing, inside(lambda w: torch.svd_lowrank(w, q=2)[0]))
