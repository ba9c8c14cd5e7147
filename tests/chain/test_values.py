"""Whatever is passed as an initial value becomes a tensor that nobody else holds."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import torchcreator as tc

VALUES = {
    "a Python float": (1.5, torch.float32, 1.5),
    "an integer": (3, torch.int64, 3),
    "a truth value": (True, torch.bool, True),
    "a complex number": (1 + 2j, torch.complex64, 1 + 2j),
    "a list": ([1, 2.5], torch.float32, [1.0, 2.5]),
    "a nested tuple": (((1, 2), (3, 4)), torch.int64, [[1, 2], [3, 4]]),
    "an empty list": ([], torch.float32, []),
    "a NumPy float": (np.float64(1.5), torch.float64, 1.5),
    "a NumPy integer": (np.int32(3), torch.int32, 3),
    "an array": (np.ones((2, 1), dtype=np.float16), torch.float16, [[1.0], [1.0]]),
    "a read-only array": (np.broadcast_to(np.float32(1), (2,)), torch.float32, [1.0, 1.0]),
    "a list of scalar tensors": ([torch.tensor(1.0), torch.tensor(2.0)], torch.float32, [1.0, 2.0]),
    "a tensor": (torch.tensor([1, 2], dtype=torch.int8), torch.int8, [1, 2]),
    "a parameter": (nn.Parameter(torch.tensor([1.0])), torch.float32, [1.0]),
    "a function": (lambda: [1.0, 2.0], torch.float32, [1.0, 2.0]),
    "a function that returns an array": (lambda: np.zeros(1), torch.float64, [0.0]),
    "a bound builtin": (functools.partial(torch.full, (2,), 7.0), torch.float32, [7.0, 7.0]),
}


@pytest.mark.parametrize(("value", "dtype", "expected"), VALUES.values(), ids=VALUES)
def test_what_an_initial_value_becomes(value, dtype, expected):
    """Each kind of value becomes a leaf parameter of its natural dtype."""
    p = tc.variable(value)
    assert type(p) is nn.Parameter
    assert (p.dtype, p.tolist(), p.is_leaf) == (dtype, expected, True)
    assert p.requires_grad == (dtype.is_floating_point or dtype.is_complex)


def test_python_floats_follow_torchs_default_dtype():
    """Where torch's default dtype was changed, Python floats become that."""
    torch.set_default_dtype(torch.float64)
    try:
        assert tc.variable(1.0).dtype is torch.float64
        assert tc.variable(nn.init.ones_, shape=(1,)).dtype is torch.float64
        assert tc.variable(validate_shape=False).dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_new_values_follow_torchs_default_device():
    """Where a default device is set, what is not yet a tensor is made there."""
    with torch.device("meta"):
        assert tc.variable([1.0]).is_meta
        assert tc.variable(nn.init.ones_, shape=(1,)).is_meta
        assert tc.variable(torch.ones(1, device="cpu")).device.type == "cpu"


@pytest.mark.parametrize(
    "wrapped", [lambda value: value, lambda value: lambda: value], ids=["given", "returned"]
)
def test_a_source_that_may_change_is_copied(wrapped):
    """Writing to an array or a parameter afterwards does not reach the variable."""
    array, parameter = np.zeros(2), nn.Parameter(torch.zeros(2))
    made = [tc.variable(wrapped(array)), tc.variable(wrapped(parameter))]
    array[:] = 1
    with torch.no_grad():
        parameter.fill_(1)
    assert [p.tolist() for p in made] == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    "keywords",
    [{}, {"shape": (2,)}, {"dtype": torch.float32}, {"device": "cpu"}],
    ids=["bare", "shape", "dtype", "device"],
)
@pytest.mark.parametrize("source", [torch.zeros(2), torch.zeros(2, requires_grad=True)], ids=str)
def test_a_tensor_is_copied_whatever_else_is_asked(source, keywords):
    """A tensor is copied on every way through, and its graph is left alone."""
    p = tc.variable(source, **keywords)
    assert p.data_ptr() != source.data_ptr()
    assert p.is_leaf
    p.sum().backward()
    assert source.grad is None


def test_a_tensor_keeps_its_strides_and_layout():
    """A copy of a transposed or a sparse tensor is laid out as its source."""
    assert tc.variable(torch.ones(2, 3).t()).stride() == (1, 3)
    assert tc.variable(torch.eye(2).to_sparse()).layout is torch.sparse_coo


@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1).flatmap(
        lambda row: st.lists(st.just(row), min_size=1, max_size=3)
    )
)
def test_lists_arrays_and_tensors_agree(rows):
    """The same numbers give the same variable, however they are written."""
    expected = torch.tensor(rows)
    for value in (rows, tuple(map(tuple, rows)), np.float32(rows), expected, lambda: rows):
        p = tc.variable(value, dtype=torch.float32, shape=expected.shape)
        assert torch.equal(p, expected)


DTYPES = {
    "an integer to a float": (3, torch.float32, [3.0]),
    "a float64 array to float32": (np.float64([0.1]), torch.float32, [np.float32(0.1)]),
    "an array's fraction, as NumPy casts": (np.array([1.7]), torch.int32, [1]),
    "a truth value to an integer": (True, torch.int32, [1]),
    "a list to bfloat16": ([1.0], torch.bfloat16, [1.0]),
    "a float to complex": (1.5, torch.complex64, [1.5]),
}


@pytest.mark.parametrize(("value", "dtype", "expected"), DTYPES.values(), ids=DTYPES)
def test_python_and_numpy_values_are_converted(value, dtype, expected):
    """``dtype`` converts what is not yet a tensor."""
    p = tc.variable(value, dtype=dtype)
    assert p.dtype is dtype
    assert p.reshape(-1).tolist() == expected


def test_an_unknown_shape_gives_an_uninitialized_parameter():
    """``validate_shape=False`` with neither value nor shape waits for the first forward."""
    p = tc.variable(validate_shape=False, dtype=torch.float64, constraint="non_neg")
    assert isinstance(p, nn.UninitializedParameter)
    assert (tc.spec_of(p).shape, tc.spec_of(p).dtype) == (None, torch.float64)
    p.materialize((2,))
    assert (type(p), p.dtype) == (nn.Parameter, torch.float64)
    with torch.no_grad():
        p.fill_(-1)
    tc.apply_constraints([p])
    assert p.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("value", [[1.0, 2.0], torch.ones(2)], ids=["list", "tensor"])
def test_a_known_shape_is_used_even_if_it_might_be_unknown(value):
    """``validate_shape=False`` changes nothing where a value is given."""
    p = tc.variable(value, validate_shape=False)
    assert (type(p), tc.spec_of(p).shape) == (nn.Parameter, (2,))
    with pytest.raises(ValueError, match="another shape"):
        tc.variable(value, validate_shape=False, shape=(3,))
