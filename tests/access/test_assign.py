"""Writes and reads of one variable, on one rank; several are in distributed/."""

from __future__ import annotations

import copy
import io
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import torchcreator as tc

POLICIES = list(itertools.product(tc.VariableSynchronization, tc.VariableAggregation))


@pytest.mark.parametrize(
    ("synchronization", "aggregation"), POLICIES, ids=lambda policy: policy.name.lower()
)
def test_on_one_rank_every_policy_is_plain_assignment(synchronization, aggregation):
    """With one rank, and no process group, writes write and reads read."""
    v = tc.variable(10.0, synchronization=synchronization, aggregation=aggregation)
    assert tc.assign(v, 4.0) is v
    assert tc.assign_add(v, 3.0) is v
    assert tc.assign_sub(v, torch.tensor(2.0)) is v
    assert tc.read_value(v).item() == 5.0


def test_a_parameter_that_no_creator_made_is_written_too():
    """A plain parameter is treated as a variable that declares nothing."""
    p = nn.Parameter(torch.zeros(2))
    assert tc.read_value(tc.assign(p, [1.0, 2.0])).tolist() == [1.0, 2.0]


def test_writing_needs_no_gradient_and_keeps_the_parameter():
    """A write leaves identity, ``requires_grad`` and ``grad`` as they are."""
    v = tc.variable([1.0, 2.0])
    v.sum().backward()
    assert tc.assign_add(v, [1.0, 1.0]) is v
    assert (v.requires_grad, v.is_leaf, v.grad.tolist()) == (True, True, [1.0, 1.0])


def test_a_read_is_a_copy():
    """What `read_value` returns shares no memory with the variable."""
    v = tc.variable([1.0, 2.0], trainable=False)
    tc.read_value(v).zero_()
    assert v.tolist() == [1.0, 2.0]


def test_a_read_is_differentiable():
    """A gradient passes through a read to the variable."""
    v = tc.variable([1.0, 2.0])
    tc.read_value(v).square().sum().backward()
    assert v.grad.tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(2), r"(?s)'w' has another shape.*expected: \(3,\)\n  actual:   \(2,\)"),
        (torch.zeros(1), r"never broadcast"),
        (0.0, r"actual:   \(\)"),
    ],
    ids=["another length", "a broadcastable tensor", "a number"],
)
def test_another_shape_is_refused(value, message):
    """A value of another shape is an error, and the variable is untouched."""
    v = tc.variable([1.0, 2.0, 3.0], name="w", module=nn.Module())
    with pytest.raises(tc.TorchCreatorError, match=message) as caught:
        tc.assign(v, value)
    assert isinstance(caught.value, ValueError)
    assert v.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            torch.zeros(2, dtype=torch.float64),
            r"expected: torch.float32\n  actual:   torch.float64",
        ),
        ("ab", r"is 'ab'"),
        ([[1.0], 2.0], r"cannot make a torch.float32"),
        (None, r"is None"),
    ],
    ids=["another dtype", "text", "a ragged list", "nothing"],
)
def test_another_type_is_refused(value, message):
    """A tensor is never cast, and what is no number is named."""
    v = tc.variable([1.0, 2.0], name="w", module=nn.Module())
    with pytest.raises(tc.TorchCreatorError, match=message) as caught:
        tc.assign(v, value)
    assert isinstance(caught.value, TypeError)
    assert v.tolist() == [1.0, 2.0]


def test_a_fraction_is_not_cut_off():
    """A Python float for an integer variable is an error, not its integer part."""
    with pytest.raises(TypeError, match=r"a fraction does not fit into torch\.int64"):
        tc.assign(tc.variable(1), 1.5)


def test_integers_become_the_variables_dtype():
    """Python numbers, unlike tensors, are converted."""
    v = tc.variable([1.0], dtype=torch.bfloat16)
    assert tc.assign(v, [3]).dtype is torch.bfloat16
    assert v.item() == 3.0


def test_what_is_no_variable_is_refused():
    """A number has no place to be written to."""
    with pytest.raises(TypeError, match=r"3.0 is a float"):
        tc.assign(3.0, 1.0)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (nn.Parameter(torch.empty(2, device="meta")), "is on the meta device"),
        (nn.UninitializedParameter(), "is uninitialized"),
    ],
    ids=["meta", "lazy"],
)
def test_what_has_no_value_yet_is_refused(parameter, message):
    """A write that would be lost, and a read of nothing, are errors."""
    with pytest.raises(ValueError, match=message):
        tc.assign(parameter, [1.0, 2.0])
    with pytest.raises(ValueError, match=message):
        tc.read_value(parameter)


# The one device that every machine has is the CPU: the cache works in the same way there.
def cached(value, **keywords):
    return tc.variable(value, caching_device="cpu", **keywords)


def test_a_cached_read_returns_the_same_copy_until_the_variable_changes():
    """The copy on the caching device is made once per version of the variable."""
    v = cached([1.0, 2.0])
    first = tc.read_value(v)
    assert first.data_ptr() != v.data_ptr()
    assert tc.read_value(v).data_ptr() == first.data_ptr()
    tc.assign(v, [3.0, 4.0])
    second = tc.read_value(v)
    assert second.tolist() == [3.0, 4.0]
    assert first.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "change",
    [
        lambda v: torch.optim.SGD([v], lr=1.0).step(),
        lambda v: setattr(v, "data", torch.tensor([0.0, 1.0])),
        lambda v: nn.init.zeros_(v),
    ],
    ids=["an optimizer step", "p.data = x", "an initialiser"],
)
def test_a_cached_read_follows_every_way_of_writing(change):
    """After any write, the cached read has the new value."""
    v = cached([1.0, 2.0])
    v.grad = torch.ones(2)
    tc.read_value(v)
    change(v)
    assert tc.read_value(v).tolist() == v.tolist()
    assert v.tolist() != [1.0, 2.0]


def test_writing_into_a_cached_copy_does_not_change_later_reads():
    """A copy that somebody wrote into is not handed out again."""
    v = cached([1.0, 2.0], trainable=False)
    tc.read_value(v).zero_()
    assert tc.read_value(v).tolist() == [1.0, 2.0]


def test_a_cached_read_is_differentiable_twice():
    """Gradients, and gradients of gradients, pass through the cached copy to the variable."""
    v = cached([2.0])
    for _ in range(2):  # also on the second read, which copies nothing
        (grad,) = torch.autograd.grad(tc.read_value(v).pow(3).sum(), v, create_graph=True)
        (second,) = torch.autograd.grad(grad.sum(), v)
        assert (grad.item(), second.item()) == (12.0, 12.0)


def test_the_cached_copy_is_neither_copied_nor_saved():
    """Copies and pickles of a variable do not carry the copy that was cached for it."""
    v = cached(torch.zeros(10_000))
    before = saved_size(v)
    tc.read_value(v)
    assert saved_size(v) < before + 1000
    tc.read_value(copy.deepcopy(v))
    file = io.BytesIO()
    torch.save(v, file)
    file.seek(0)
    loaded = torch.load(file)
    assert tc.read_value(tc.assign_add(loaded, torch.ones(10_000))).sum().item() == 10_000


def saved_size(v):
    file = io.BytesIO()
    torch.save(v, file)
    return len(file.getvalue())


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=5),
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=5),
)
def test_writing_then_reading_gives_what_was_written(old, new):
    """What is assigned is what is read, bit for bit."""
    size = min(len(old), len(new))
    v = tc.variable(old[:size])
    assert tc.read_value(tc.assign(v, new[:size])).tolist() == new[:size]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_copy_on_another_device():
    """A variable on the CPU is read from its copy on the GPU, and gets its gradient back."""
    v = tc.variable([2.0], caching_device="cuda")
    read = tc.read_value(v)
    assert read.device.type == "cuda"
    assert tc.read_value(v).data_ptr() == read.data_ptr()
    read.square().sum().backward()
    assert v.grad.tolist() == [4.0]
