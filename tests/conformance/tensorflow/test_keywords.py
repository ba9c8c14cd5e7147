"""TensorFlow's keywords of a variable."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.conformance.tensorflow.log import AGG, SYNC, seen_by_a_creator, spec
from tests.support.log import passing


def test_initial_value_missing():
    """None or missing is a ValueError of the factory, so a creator may supply the value."""
    with pytest.raises(ValueError, match="has no initial_value"):
        tc.variable()
    with tc.creator_scope(lambda nxt, **kwargs: nxt(**{**kwargs, "initial_value": 1.0})):
        assert tc.variable().item() == 1.0


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.0, torch.float32),
        (True, torch.bool),
        ([1, 2.5], torch.float32),
        ([], torch.float32),
        (np.float64(1), torch.float64),
        (np.int64(1), torch.int64),
        (torch.zeros(1, dtype=torch.float16), torch.float16),
    ],
    ids=repr,
)
def test_initial_value_dtypes(value, dtype):
    """Floats are float32, bools bool, an empty list float32; NumPy and tensors keep their dtype."""
    assert tc.variable(value).dtype is dtype


def test_initial_value_integers():
    """Differs: a Python int is int64, torch's own choice, and not int32."""
    assert tc.variable(1).dtype is torch.int64


def test_initial_value_text():
    """Differs: torch has no tensors of text, so it is a TypeError."""
    with pytest.raises(TypeError, match="'text'"):
        tc.variable("text")


def test_initial_value_ragged():
    """A ragged list is a ValueError."""
    with pytest.raises(ValueError, match=r"\[\[1.0\], \[1.0, 2.0\]\]"):
        tc.variable([[1.0], [1.0, 2.0]])


def test_initial_value_of_a_wrong_type():
    """Differs in the kind: what is no value is a TypeError, not a ValueError."""
    with pytest.raises(TypeError, match=r"is \{\}"):
        tc.variable({})


def test_initial_value_is_copied():
    """Arrays and variables are copied: later changes of the source are not seen."""
    array, v = np.zeros(1), tc.variable([0.0])
    made = tc.variable(array), tc.variable(v)
    array[0] = 1
    tc.assign(v, [1.0])
    assert [p.item() for p in made] == [0.0, 0.0]


def test_initial_value_callables():
    """A callable needs no dtype; one that needs an argument, or returns None, is an error.

    Differs in the second: TypeError there as well, where TensorFlow raises ValueError.
    """
    assert tc.variable(lambda: [1.0, 2.0]).dtype is torch.float32
    with pytest.raises(TypeError, match="needs an argument"):
        tc.variable(lambda shape: 1.0)
    with pytest.raises(TypeError, match="returned None"):
        tc.variable(lambda: None)


def test_dtype_conversions():
    """Python ints and NumPy arrays are converted, arrays with truncation."""
    assert tc.variable(1, dtype=torch.float32).dtype is torch.float32
    assert tc.variable(np.float64([1.5]), dtype=torch.float32).tolist() == [1.5]
    assert tc.variable(np.array([1.7]), dtype=torch.int32).tolist() == [1]


def test_dtype_fractions():
    """A Python float for an integer variable is a TypeError."""
    with pytest.raises(TypeError, match="drop its fraction"):
        tc.variable(1.5, dtype=torch.int32)


def test_dtype_of_a_tensor():
    """Tensors are never cast: another dtype is a ValueError."""
    with pytest.raises(ValueError, match=r"torch\.float64\n.*torch\.float32"):
        tc.variable(torch.zeros(1), dtype=torch.float64)


@pytest.mark.parametrize("dtype", ["float16", np.float16, "nope"], ids=repr)
def test_dtype_by_name(dtype):
    """Differs: a dtype is a torch.dtype, as everywhere in torch; names and NumPy's are refused."""
    with pytest.raises(TypeError, match="The dtype of variable"):
        tc.variable(1.0, dtype=dtype)


@pytest.mark.parametrize("value", [[1.0, 2.0], 0.0], ids=repr)
def test_shape_must_equal(value):
    """The shape must be the value's: no broadcasting, ValueError."""
    with pytest.raises(ValueError, match=r"expected: \(3,\)"):
        tc.variable(value, shape=[3])


def test_shape_partly_known():
    """Differs: a dimension of None is refused; a torch parameter has one shape.

    An unknown shape is ``validate_shape=False``, which gives an uninitialized parameter.
    """
    with pytest.raises(TypeError, match=r"is \[None\]"):
        tc.variable([1.0], shape=[None])


def test_validate_shape():
    """Differs: False means what TensorFlow documents, an unknown shape, and needs no value."""
    assert isinstance(tc.variable(validate_shape=False), nn.UninitializedParameter)
    assert tc.variable([1.0], validate_shape=False).shape == (1,)


def test_caching_device():
    """Differs: the cached copy is refreshed when the variable changed, and never stale."""
    v = tc.variable(1.0, caching_device="cpu")
    assert tc.read_value(v).item() == 1.0
    tc.assign(v, 5.0)
    assert (tc.read_value(v).item(), (v + 0).item()) == (5.0, 5.0)


def test_name_default_and_raw():
    """None becomes "Variable"; creators see the raw name, None if not given."""
    assert seen_by_a_creator(1.0)["name"] is None
    assert seen_by_a_creator(1.0, name="a/b c!")["name"] == "a/b c!"
    with tc.creator_scope(passing):
        assert spec(1.0).name == "Variable"
        assert spec(1.0, name="a/b c!").name == "a/b c!"


def test_name_uniquified():
    """Differs: names are uniquified, as graph mode does and the documentation says; eager does not.

    There is no ``:0`` behind a name.
    """
    with tc.creator_scope(passing):
        names = [spec(1.0, name=name).name for name in ("a", "a", None, None)]
    assert names == ["a", "a_1", "Variable", "Variable_1"]


def test_name_refused():
    """A name that is no string is an error. Differs for the empty one, which is refused too."""
    with pytest.raises(TypeError, match="The name of a variable is 3"):
        tc.variable(1.0, name=3)
    with pytest.raises(ValueError, match="The name of a variable is ''"):
        tc.variable(1.0, name="")


def test_trainable_default():
    """None is resolved in the factory: True, but False for ON_READ."""
    assert spec(1.0).trainable is True
    assert spec(1.0, synchronization="on_read").trainable is False
    assert seen_by_a_creator(1.0, synchronization="on_read")["trainable"] is None


def test_trainable_with_on_read():
    """An explicit True together with ON_READ is accepted."""
    assert spec(1.0, trainable=True, synchronization=SYNC.ON_READ).trainable is True


def test_trainable_of_integers():
    """Differs: integers and bools default to False, and True is a TypeError: no gradient exists."""
    assert spec(1).trainable is False
    assert spec(True).trainable is False
    with pytest.raises(TypeError, match=r"trainable with dtype torch\.int64"):
        tc.variable(1, trainable=True)


@pytest.mark.parametrize("value", [0, 1, "yes"], ids=repr)
def test_trainable_is_checked(value):
    """Differs: what is no bool is a TypeError, not stored as given."""
    with pytest.raises(TypeError, match="The trainable of variable"):
        tc.variable(1.0, trainable=value)


def test_constraint():
    """A callable is stored as it is, and applied neither at creation nor by assign."""

    def relu(w):
        return w.relu()

    v = tc.variable([-1.0], constraint=relu)
    assert tc.spec_of(v).constraint is relu
    assert v.item() == -1.0
    assert tc.assign_add(v, [-1.0]).item() == -2.0


def test_constraint_refused():
    """Neither None nor callable is an error. Differs for text, which names a ready-made one."""
    with pytest.raises(TypeError, match="Invalid constraint 3"):
        tc.variable(1.0, constraint=3)
    assert spec(1.0, constraint="non_neg").constraint == tc.constraints.NonNeg()


@pytest.mark.parametrize(
    ("keyword", "members"), [("synchronization", SYNC), ("aggregation", AGG)], ids=str
)
def test_policies_read(keyword, members):
    """Members and None are accepted. Differs: names in any case are read, numbers are refused.

    TensorFlow refuses names and reads 0 to 3, so that True is a policy.
    """
    for member in members:
        for written in (member, member.name, member.name.lower()):
            assert getattr(spec(1.0, **{keyword: written}), keyword) is member
    assert getattr(spec(1.0, **{keyword: None}), keyword) is next(iter(members))
    for wrong in (0, 2.0, True, 7, -1, "wrong"):
        with pytest.raises(ValueError, match=f"Invalid variable {keyword} mode: "):
            tc.variable(1.0, **{keyword: wrong})


def test_policies_message():
    """The error has TensorFlow's words, with the variable's name where it shows None."""
    with pytest.raises(ValueError, match="Invalid variable aggregation mode: 'X' for variable: nm"):
        tc.variable(1.0, aggregation="X", name="nm")


def test_enums():
    """The members have TensorFlow's names and order; S(0) and S["AUTO"] work; SUM is not 1.

    Differs: a member's value is its word, so that SUM is "sum".
    """
    assert [m.name for m in SYNC] == ["AUTO", "NONE", "ON_WRITE", "ON_READ"]
    assert [m.name for m in AGG] == ["NONE", "SUM", "MEAN", "ONLY_FIRST_REPLICA"]
    assert [SYNC(n) for n in range(4)] == list(SYNC)
    assert [AGG(n) for n in range(4)] == list(AGG)
    assert SYNC(0) is SYNC["AUTO"]
    with pytest.raises(ValueError, match="4 is not a valid VariableSynchronization"):
        SYNC(4)
    assert AGG.SUM == "sum"
    assert AGG.SUM != 1


@pytest.mark.parametrize("value", [1, True, 1j], ids=repr)
def test_mean_of_what_is_not_floating(value):
    """MEAN with an int, bool or complex dtype is refused at creation; float16 is fine.

    Differs in when: always, where TensorFlow refuses it only under a strategy.
    """
    with pytest.raises(ValueError, match="aggregation MEAN and dtype"):
        tc.variable(value, aggregation="mean")
    assert spec(1.0, dtype=torch.float16, aggregation="mean").aggregation is AGG.MEAN
