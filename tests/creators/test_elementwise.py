"""A function of each element keeps a value that can be called and sliced."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import build
from torchcreator.creators import cast, elementwise


class Rows:
    """An array in a file, which notes what is read of it."""

    def __init__(self, tensor):
        self.tensor = tensor
        self.read = []
        self.shape = tuple(tensor.shape)

    def __getitem__(self, index):
        self.read.append(index)
        return self.tensor[index].numpy()


class Dataset(Rows):
    """One that converts to an array at once, as datasets of h5py and zarr do."""

    def __array__(self, dtype=None, copy=None):
        return self[:, :]


WHOLE = torch.arange(12.0).reshape(4, 3)
VALUES = {
    "tensor": lambda path: WHOLE.clone(),
    "array": lambda path: WHOLE.numpy().copy(),
    "mapped array": lambda path: mapped(path),
    "in a file": lambda path: Rows(WHOLE),
    "dataset": lambda path: Dataset(WHOLE),
    "callable": lambda path: lambda: WHOLE.clone(),
    "list": lambda path: WHOLE.tolist(),
}


def mapped(path):
    np.save(path / "w.npy", WHOLE.numpy())
    return np.load(path / "w.npy", mmap_mode="r")


@pytest.mark.parametrize("name", VALUES)
def test_a_value_of_any_kind(name, tmp_path):
    """Whatever it is, the variable begins with the function of it, and it stays what it was."""
    given = VALUES[name](tmp_path)
    made = tc.variable(elementwise(given, lambda v: v.mul_(2)))
    assert torch.equal(made.data, WHOLE * 2)
    assert torch.equal(tc.variable(given).data, WHOLE)
    if isinstance(given, Rows):
        assert len(given.read) == 2  # not row by row


@pytest.mark.parametrize("name", ["tensor", "array", "mapped array", "in a file"])
def test_sliced_where_the_value_can_be(name, tmp_path):
    """A part of it is the function of that part, and no more is read."""
    given = VALUES[name](tmp_path)
    value = elementwise(elementwise(given, lambda v: v * 2), lambda v: v + 1)
    assert value.shape == (4, 3)
    assert torch.equal(value[1:3, 2:3], (WHOLE * 2 + 1)[1:3, 2:3])
    if isinstance(given, Rows):
        assert given.read == [(slice(1, 3), slice(2, 3))]


@pytest.mark.parametrize("name", ["callable", "list"])
def test_not_sliced_where_it_cannot_be(name, tmp_path):
    """What cannot be sliced has no shape, so that it is made whole."""
    assert elementwise(VALUES[name](tmp_path), torch.neg).shape is None


def test_the_value_of_a_build():
    """Around a recorded value, as a lambda would be, but that it can be sliced; casts are such."""

    def doubled(next_creator, **kwargs):
        value = kwargs["initial_value"] = elementwise(kwargs["initial_value"], lambda v: v * 2)
        assert torch.equal(value[1:2], value()[1:2])
        return next_creator(**kwargs)

    with tc.creator_scope(doubled), tc.creator_scope(cast(torch.bfloat16)):
        model = build(nn.Linear, 4, 3, seed=0)
    expected = build(nn.Linear, 4, 3, seed=0).to(torch.bfloat16)
    assert torch.equal(model.weight, expected.weight * 2)


def test_an_initialiser_in_place():
    """An in-place initialiser is called with memory of the final form."""
    with tc.creator_scope(
        lambda next_creator, **kwargs: next_creator(
            **{**kwargs, "initial_value": elementwise(kwargs["initial_value"], lambda v: v * 3)}
        )
    ):
        made = tc.variable(nn.init.ones_, shape=(2,), dtype=torch.float64)
    assert made.tolist() == [3.0, 3.0]
    assert made.dtype == torch.float64


def test_mistakes():
    """No value yet, and what is no function, are errors that say what to write."""

    def halved(next_creator, **kwargs):
        kwargs["initial_value"] = elementwise(kwargs["initial_value"], lambda v: v / 2)
        return next_creator(**kwargs)

    with (
        tc.creator_scope(halved),
        pytest.raises(TypeError, match=r"got None as the value(.|\n)*with build\(\)"),
    ):
        nn.Linear(2, 2)
    with pytest.raises(TypeError, match="got 2 as the function"):
        elementwise(WHOLE, 2)
    with pytest.raises(TypeError, match="returned None"):
        tc.variable(elementwise(lambda: None, torch.neg))
