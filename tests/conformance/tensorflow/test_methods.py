"""TensorFlow's methods and properties of a variable."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.conformance.tensorflow.log import SYNC, spec


def test_assign_chains():
    """Writes chain. Differs: they return the variable itself, not a new object."""
    v = tc.variable([1.0, 2.0])
    assert tc.assign_add(tc.assign(v, [3.0, 4.0]), [1.0, 1.0]) is v
    assert v.tolist() == [4.0, 5.0]


@pytest.mark.parametrize("write", [tc.assign, tc.assign_add, tc.assign_sub])
@pytest.mark.parametrize("value", [[1.0, 2.0, 3.0], 1.0], ids=["longer", "a number"])
def test_assign_shape(write, value):
    """A write of another shape is an error, a number to a vector too: nothing is broadcast."""
    with pytest.raises(ValueError, match="another shape"):
        write(tc.variable([1.0, 2.0]), value)


def test_assign_dtype():
    """Python and NumPy values are converted; a tensor of another dtype, fractions, None are not.

    Differs in the kind for tensors and None: TypeError, where TensorFlow raises ValueError.
    """
    v, n = tc.variable([1.0]), tc.variable([1])
    assert tc.assign(v, np.float64([2.0])).item() == 2.0
    for variable, value in [(v, torch.zeros(1).double()), (v, None), (n, [1.5]), (n, [2.0])]:
        with pytest.raises(TypeError, match=r"The value for variable"):
            tc.assign(variable, value)


def test_assign_to_what_is_not_trainable():
    """A variable with trainable=False is written like any other."""
    assert tc.assign(tc.variable(1.0, trainable=False), 2.0).item() == 2.0


def test_in_place_operators():
    """``v += 1`` is a RuntimeError. Differs in whose: torch's, for leaves that require grad."""
    v = tc.variable(1.0)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        v += 1


def test_reads_are_snapshots():
    """Later writes are not seen through what was read before."""
    v = tc.variable([1.0])
    read = tc.read_value(v)
    tc.assign(v, [2.0])
    assert read.tolist() == [1.0]
    assert type(read) is torch.Tensor


def test_gradients():
    """Trainable variables get gradients by themselves, others none."""
    v, frozen = tc.variable(2.0), tc.variable(3.0, trainable=False)
    (v * frozen).backward()
    assert (v.grad.item(), frozen.grad) == (3.0, None)


def test_gradient_through_assign():
    """The gradient of ``assign(v, 3.) * 2`` with respect to v is 2: the result is the variable."""
    v = tc.variable(1.0)
    (tc.assign(v, 3.0) * 2).backward()
    assert v.grad.item() == 2.0


def test_properties_are_read_only():
    """What was declared cannot be set afterwards: the spec is frozen."""
    found = spec(1.0)
    with pytest.raises(AttributeError, match=r"set attribute|no setter|trainable"):
        found.trainable = False


def test_synchronization_stays_auto():
    """A plain variable's synchronization stays AUTO."""
    assert spec(1.0).synchronization is SYNC.AUTO


def declared():
    return tc.variable(
        [1.0], name="w", trainable=False, constraint="non_neg", synchronization="on_read",
        aggregation="sum", module=nn.Module(),
    )  # fmt: skip


def test_deepcopy():
    """A deepcopy keeps name, trainable, constraint and policies, with memory of its own."""
    v = declared()
    copied = copy.deepcopy(v)
    assert tc.spec_of(copied) == tc.spec_of(v)
    tc.assign(v, [5.0])
    assert copied.item() == 1.0


def test_pickle():
    """Differs: pickling keeps the policies too, which TensorFlow loses."""
    v = declared()
    assert tc.spec_of(pickle.loads(pickle.dumps(v))) == tc.spec_of(v)
