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
from torchcreator._values import InPlace

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


def test_what_a_function_returns_is_taken_over():
    """No copy is made of what a callable made freshly: its memory becomes the parameter's."""
    made = torch.ones(2)
    assert tc.variable(lambda: made).data_ptr() == made.data_ptr()


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


def test_an_in_place_initialiser_fills_the_declared_shape():
    """With ``shape``, a callable that takes a tensor fills one of that shape and dtype."""
    p = tc.variable(nn.init.ones_, shape=[2, 3], dtype=torch.float64)
    assert torch.equal(p, torch.ones(2, 3, dtype=torch.float64))


@pytest.mark.parametrize(
    "initialiser",
    [
        functools.partial(nn.init.constant_, val=7.0),
        lambda t: t.fill_(7.0),
        lambda t: (t.fill_(7.0), None)[1],
        lambda t: torch.full_like(t, 7.0),
        functools.partial(torch.Tensor.fill_, value=7.0),
        lambda: torch.full((2,), 7.0),
        functools.partial(torch.full, (2,), 7.0),
        lambda t=None: torch.full((2,), 7.0),
    ],
    ids=[
        "a partial of nn.init",
        "a function",
        "one that returns None",
        "one that returns a new tensor",
        "a builtin method",
        "without arguments",
        "a bound builtin",
        "an argument with a default",
    ],
)
def test_every_way_to_write_an_initialiser(initialiser):
    """With ``shape``, both kinds of callable serve: one that fills, and one that returns."""
    assert tc.variable(initialiser, shape=(2,)).tolist() == [7.0, 7.0]


def test_an_initialiser_draws_what_torch_draws():
    """A seeded initialiser gives the numbers that it gives on a tensor made by hand."""
    torch.manual_seed(3)
    expected = nn.init.xavier_uniform_(torch.empty(4, 5))
    torch.manual_seed(3)
    assert torch.equal(tc.variable(nn.init.xavier_uniform_, shape=(4, 5)), expected)


def test_creators_call_an_initialiser_without_arguments():
    """An in-place initialiser reaches creators as a callable without arguments, and lazy."""
    seen = []

    def doubled(next_creator, **kwargs):
        seen.append(kwargs["initial_value"])
        return next_creator(**{**kwargs, "initial_value": lambda: seen[0]() * 2})

    with tc.creator_scope(doubled):
        assert tc.variable(nn.init.ones_, shape=(2,)).tolist() == [2.0, 2.0]
    assert isinstance(seen[0], InPlace)
    assert "ones_" in repr(seen[0])


def test_an_initialiser_learns_the_final_shape_dtype_and_device():
    """What a creator further out changes about the tensor, the initialiser sees."""

    def changed(next_creator, **kwargs):
        return next_creator(**{**kwargs, "shape": (3,), "dtype": torch.float64, "device": "meta"})

    seen = []

    def initialiser(tensor):
        seen.append((tuple(tensor.shape), tensor.dtype, tensor.device.type))

    with tc.creator_scope(changed):
        p = tc.variable(initialiser, shape=(2,))
    assert seen == [((3,), torch.float64, "meta")]
    assert (tuple(p.shape), p.dtype, p.device.type) == seen[0]


def test_an_initialiser_keeps_its_shape_where_a_creator_drops_it():
    """Without the keyword, the shape that the caller declared still holds."""

    def forgetful(next_creator, **kwargs):
        return next_creator(initial_value=kwargs["initial_value"])

    with tc.creator_scope(forgetful):
        assert tc.variable(nn.init.ones_, shape=(2,)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("initialiser", [nn.init.ones_, lambda: torch.ones(2, 3)], ids=str)
def test_creators_may_bring_an_initialiser(initialiser):
    """A creator sets the same kinds of initial value as a caller, for stock modules as well."""

    def ones(next_creator, **kwargs):
        return next_creator(**{**kwargs, "initial_value": initialiser})

    with tc.creator_scope(ones):
        assert tc.variable(0.0, shape=(2, 3)).sum().item() == 6
        assert nn.Linear(3, 2, bias=False).weight.sum().item() == 6
    assert tc.default_creator(initial_value=initialiser, shape=(2, 3)).sum().item() == 6


def test_a_callable_is_called_once_after_every_creator():
    """A callable stays lazy through the chain and is called once, by the default creator."""
    log = []

    def watched(next_creator, **kwargs):
        log.append("in")
        made = next_creator(**kwargs)
        log.append("out")
        return made

    with tc.creator_scope(watched), tc.creator_scope(watched):
        tc.variable(lambda: log.append("value") or 1.0)
    assert log == ["in", "in", "value", "out", "out"]


def test_a_callable_is_never_called_if_a_creator_answers():
    """Where a creator returns a parameter of its own, no value is computed."""
    own = nn.Parameter(torch.zeros(1))
    with tc.creator_scope(lambda next_creator, **kwargs: own):
        assert tc.variable(lambda: pytest.fail("was called")) is own


def test_what_a_callable_raises_passes_unchanged():
    """An error inside an initial value is the caller's, and reaches him as it is."""
    error = TypeError("inside")

    def raises():
        raise error

    with pytest.raises(TypeError, match=r"^inside$") as caught:
        tc.variable(raises)
    assert caught.value is error


def test_a_variable_may_be_made_while_another_ones_value_is():
    """An initial value that makes variables itself does not confuse their shapes."""

    def outer():
        inner = tc.variable(nn.init.ones_, shape=(3,))
        return inner.detach().sum().reshape(1)

    assert tc.variable(outer, shape=(1,)).tolist() == [3.0]


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


@pytest.mark.parametrize("shape", [(2**40, 2**10), (2**62, 2**62), (2**70,)], ids=str)
def test_what_cannot_be_allocated_is_named(shape):
    """A shape beyond all memory is an error with the variable's name, not torch's allocator's."""
    with pytest.raises(ValueError, match=r"Variable 'vast' of shape .* could not be allocated"):
        tc.variable(nn.init.zeros_, shape=shape, name="vast")


def test_an_iterator_is_no_shape():
    """What is empty the second time it is looked at would be another shape then."""
    with pytest.raises(TypeError, match="The shape of variable 'w' is <generator"):
        tc.variable(nn.init.zeros_, shape=(n for n in (2, 3)), name="w")


@pytest.mark.parametrize(
    "value",
    [torch.nested.nested_tensor([torch.ones(1)], layout=torch.jagged), nn.UninitializedParameter()],
    ids=["nested", "lazy"],
)
def test_a_value_without_one_shape_is_refused(value):
    """A nested tensor and a lazy parameter have no shape that a variable could have."""
    with pytest.raises(TypeError, match="The initial value of variable 'w' is a "):
        tc.variable(value, name="w")


def test_a_function_that_is_not_called_so_is_told():
    """A function of other arguments is refused by the variable's name; its own errors pass."""
    with pytest.raises(TypeError, match=r"is called with one tensor: .*missing 1 required"):
        tc.variable(lambda a, b: a, shape=(2,), name="w")
    with pytest.raises(TypeError, match="initial value of variable 'w' is a callable that needs"):
        tc.variable(torch.rand, name="w")
