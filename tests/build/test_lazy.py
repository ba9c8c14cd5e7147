"""Lazy modules in a build: what creators declare acts when the first forward gives them a shape."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import build
from torchcreator.creators import cast, constrain, freeze, from_checkpoint, on


def net():
    return nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d(), nn.Linear(3, 2))


@pytest.mark.parametrize(
    "creator",
    [cast(torch.float64), on("meta"), freeze(), constrain("non_neg")],
    ids=["cast", "on", "freeze", "constrain"],
)
@pytest.mark.parametrize(
    ("kind", "args"),
    [(nn.LazyLinear, (3,)), (nn.LazyConv1d, (3, 1)), (nn.LazyBatchNorm1d, ())],
    ids=["linear", "convolution", "norm"],
)
def test_a_build_does_as_a_plain_scope(kind, args, creator):
    """Dtype, device, trainable and declaration of a lazy parameter are the same in both."""
    with tc.creator_scope(creator):
        plain, built = kind(*args), build(kind, *args)
    assert type(built.weight) is type(plain.weight)
    for name in ("weight", "bias"):
        ours, theirs = getattr(built, name), getattr(plain, name)
        assert (ours.dtype, ours.device) == (theirs.dtype, theirs.device)
        assert ours.requires_grad is theirs.requires_grad
        assert tc.spec_of(ours) == tc.spec_of(theirs)


def test_a_constraint_holds_once_there_is_a_shape():
    """It is declared before there is anything to project, and projects afterwards."""
    with tc.creator_scope(constrain("non_neg")):
        layer = build(nn.LazyLinear, 3)
    layer(torch.ones(1, 2))
    optimizer = torch.optim.SGD(layer.parameters(), lr=10.0)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert (layer.weight >= 0).all()


def test_a_checkpoint_has_the_shapes():
    """A lazy module takes shapes, values and buffers of a file, as torch's own loading does."""
    loaded = net()
    loaded(torch.randn(4, 5))
    loaded.eval()
    with tc.creator_scope(from_checkpoint(loaded.state_dict())):
        built = build(net).eval()
    batch = torch.randn(4, 5)
    assert torch.equal(built(batch), loaded(batch))
    assert built[0].weight.shape == (3, 5)
    for name, value in loaded.state_dict().items():
        assert torch.equal(built.state_dict()[name], value), name
