"""What a model holds more than once: one module at two paths, one memory under several tensors."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import BuildError, build
from torchcreator.creators import from_checkpoint


def twice():
    layer = nn.Linear(2, 2)
    inner = nn.Sequential(layer)
    return nn.ModuleDict({"first": layer, "inner": inner, "again": inner})


def test_a_module_at_several_paths_has_all_its_names():
    """Creators are called once for its parameters, with every full name they have."""
    seen = {}

    def note(next_creator, **kwargs):
        seen[kwargs["name"]] = kwargs["tags"]["names"]
        return next_creator(**kwargs)

    with tc.creator_scope(note):
        model = build(twice)
    assert seen == {
        f"first.{name}": (f"first.{name}", f"inner.0.{name}", f"again.0.{name}")
        for name in ("weight", "bias")
    }
    assert model["first"] is model["again"][0]


def test_its_own_state_dict_loads():
    """A state_dict has each of the names; all are used, and none is missing."""
    plain = twice()
    with tc.creator_scope(from_checkpoint(plain.state_dict())):
        model = build(twice)
    assert torch.equal(model["again"][0].weight, plain["first"].weight)


def test_a_replaced_parameter_is_at_each_path():
    """A creator's own parameter stands wherever the module does."""
    with tc.creator_scope(lambda next_creator, **kwargs: nn.Parameter(torch.ones(kwargs["shape"]))):
        model = build(twice)
    assert model["first"].weight is model["again"][0].weight
    assert model["first"].weight.eq(1).all()


class Circle(nn.Module):
    """A module whose part has it in turn."""

    def __init__(self):
        super().__init__()
        self.part = nn.Linear(2, 2)
        self.part.whole = self
        self.register_buffer("seen", torch.zeros(1))


@pytest.mark.parametrize(
    "make",
    [build, tc.inspect, lambda factory: tc.materialize(tc.defer(factory))],
    ids=["build", "inspect", "defer"],
)
def test_modules_in_a_circle_pass_once(make):
    """Names end where the circle closes, and each parameter passes the creators once."""
    seen = []

    def note(next_creator, **kwargs):
        seen.append((kwargs["name"], kwargs["tags"]))
        return next_creator(**kwargs)

    with tc.creator_scope(note):
        make(Circle)
    assert seen == [("part.weight", None), ("part.bias", None)]


@pytest.mark.parametrize(
    ("factory", "name"),
    [(lambda: nn.Linear(2, 2), "twin"), (lambda: nn.Sequential(nn.Linear(2, 2)), "0.twin")],
    ids=["of the model itself", "of a part"],
)
def test_what_a_creator_adds_has_a_value_or_is_told(factory, name):
    """A view that a creator registers comes too late; the error has its full name."""

    def adding(next_creator, **kwargs):
        if kwargs["name"].endswith("bias"):
            kwargs["module"].register_buffer("twin", kwargs["module"].bias.detach())
        return next_creator(**kwargs)

    with (
        tc.creator_scope(adding),
        pytest.raises(BuildError, match=rf"^{re.escape(name)} still has no memory"),
    ):
        build(factory)


class Flat(nn.Module):
    """Parameters that are views of one buffer, and a list that views both."""

    def __init__(self, made):
        super().__init__()
        flat = made(6)
        self.register_buffer("flat", flat)
        self.a = nn.Parameter(flat[:2])
        self.b = nn.Parameter(flat[2:].view(2, 2))
        self.across = [flat[1:3]]


@pytest.mark.parametrize(
    ("chosen", "made"),
    [("a", torch.rand), ("b", torch.rand), ("ab", torch.rand), ("ab", torch.empty)],
    ids=["the first", "the last", "both", "both, and nothing was initialised"],
)
def test_a_flat_buffer_follows(chosen, made):
    """What a creator gives a parameter that views a buffer is seen in the buffer too."""

    def sevens(next_creator, **kwargs):
        if kwargs["name"] in chosen:
            kwargs["initial_value"] = torch.full(kwargs["shape"], 7.0)
        return next_creator(**kwargs)

    torch.manual_seed(0)
    expected = made(6)
    if "a" in chosen:
        expected[:2] = 7.0
    if "b" in chosen:
        expected[2:] = 7.0
    torch.manual_seed(0)
    with tc.creator_scope(sevens):
        model = build(Flat, made)
    assert torch.equal(model.flat, expected)
    assert torch.equal(model.a, expected[:2])
    assert torch.equal(model.b, expected[2:].view(2, 2))
    assert torch.equal(model.across[0], expected[1:3])
    with torch.no_grad():
        model.flat.zero_()
    assert not model.a.any()
    assert not model.b.any()
    assert not model.across[0].any()
