"""A forward or backward in a constructor gives, to the last bit, what plain torch gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchcreator as tc
from tests.build.same import assert_builds_same

CONSTRUCTORS = []


def constructor(make):
    """Try a module whose constructor is ``make``."""
    CONSTRUCTORS.append(make)
    return make


class Constructed(nn.Module):
    def __init__(self, make):
        super().__init__()
        make(self)


@constructor
def backward(self):
    self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 2)
    self.second(self.first(torch.randn(4, 3)).relu()).pow(2).sum().backward()
    (found,) = torch.autograd.grad(self.first(torch.ones(1, 3)).pow(2).sum(), self.first.bias)
    self.register_buffer("found", found)
    self.register_buffer("kept", self.first.weight.grad.clone())


@constructor
def frozen_after_a_backward(self):
    self.layer = nn.Linear(3, 2)
    self.layer(torch.randn(4, 3)).pow(2).sum().backward()
    self.layer.requires_grad_(False)  # the gradients stay


@constructor
def optimized(self):
    self.layer = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(self.layer.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        self.layer(torch.randn(4, 3)).pow(2).sum().backward()
        optimizer.step()


@constructor
def recurrent_forwards(self):
    self.nets = nn.ModuleList([nn.LSTM(5, 7, 2, bidirectional=True), nn.GRU(5, 7, 2), nn.RNN(5, 7)])
    for number, net in enumerate(self.nets):
        out = net(torch.randn(4, 3, 5))[0]
        self.register_buffer(f"out{number}", out.detach())
        out.sum().backward()


@constructor
def packed(self):
    self.net = nn.LSTM(5, 7)
    rows = nn.utils.rnn.pack_sequence([torch.randn(3, 5), torch.randn(2, 5)])
    self.register_buffer("out", self.net(rows)[1][0].detach())


@constructor
def normalised(self):
    self.norm = nn.BatchNorm2d(3)
    for training in (True, False):
        out = self.norm.train(training)(torch.randn(2, 3, 4, 4))
        out.pow(2).sum().backward()
        self.register_buffer(f"out{training}", out.detach())
    with torch.no_grad():
        self.register_buffer("last", self.norm(torch.randn(2, 3, 4, 4)))


@constructor
def dropped(self):
    self.net = nn.LSTM(5, 7, 2, dropout=0.5)
    self.out = nn.Parameter(torch.zeros(4, 3, 7))
    self.out.data = self.net(torch.randn(4, 3, 5))[0].detach() * 0 + torch.randn(())


@constructor
def attention(self):
    query = torch.randn(2, 3, 16, 8, requires_grad=True)
    out = F.scaled_dot_product_attention(query, query * 2, query, is_causal=True)
    out.pow(2).sum().backward()
    self.register_buffer("out", out.detach())
    self.query = nn.Parameter(query)
    self.register_buffer("grad", query.grad)
    mask = torch.rand(16, 16)
    self.register_buffer(
        "masked", F.scaled_dot_product_attention(query, query, query, mask).detach()
    )


@constructor
def attending_modules(self):
    self.heads = nn.MultiheadAttention(16, 4)
    self.encoder = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0)
    self.dropping = nn.TransformerEncoderLayer(16, 4, 32)
    rows = torch.randn(5, 2, 16)
    self.register_buffer("a", self.heads(rows, rows, rows)[0].detach())
    out = self.encoder(rows)
    out.sum().backward()
    self.register_buffer("b", out.detach())
    self.register_buffer("c", self.dropping(rows).detach())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("make", CONSTRUCTORS, ids=lambda make: make.__name__)
def test_forwards_and_backwards(make):
    """Values, gradients and the generator's state are those of plain construction."""
    assert_builds_same(lambda: Constructed(make))


def test_a_gradient_that_goes_with_its_parameter_is_told():
    """A parameter that a creator had before gets no gradient of the constructor's: that is said."""
    before = nn.Parameter(torch.ones(3, 3))

    def own(next_creator, **kwargs):
        return before if kwargs["name"] == "first.weight" else next_creator(**kwargs)

    with tc.creator_scope(own), pytest.warns(UserWarning, match=r"'first\.weight', which had a"):
        model = tc.build(Constructed, backward)
    assert model.first.weight is before
    assert before.grad is None
    assert model.second.weight.grad is not None
