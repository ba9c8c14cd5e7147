"""Everything that somebody may pass by mistake, or on purpose, in place of an argument."""

from __future__ import annotations

import collections
import decimal
import enum
import fractions
import warnings

import numpy as np
import torch
from torch import nn

import torchcreator as tc


class BoomError(Exception):
    """Raised on purpose."""


def boom(*args, **kwargs):
    raise BoomError


class Hostile:
    """Whatever is asked of it raises."""

    __repr__ = __str__ = __eq__ = __bool__ = __len__ = __iter__ = __getitem__ = __float__ = boom
    __index__ = __array__ = __hash__ = boom


class Unprintable:
    """Harmless until somebody looks."""

    __repr__ = boom


class HostileCallable(Unprintable):
    """A function that raises, and cannot be named either."""

    __call__ = boom


class Wrapped(torch.Tensor):
    """A tensor of somebody's own class."""


class Count(int):
    """A number of somebody's own class."""


class Color(enum.Enum):
    """A word of somebody else's."""

    RED = 1


def endless():
    return endless()


def dimensions():
    yield 2
    yield 3


def holding_itself():
    held = []
    held.append(held)
    return held


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch calls sparse CSR and nested tensors unfinished
    _ODD_TENSORS = {
        "sparse": torch.eye(3).to_sparse(),
        "compressed": torch.eye(3).to_sparse_csr(),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "jagged": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
        "quantized": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "opaque": torch.ones(2, 2).to_mkldnn(),
    }
with torch.inference_mode():
    _ODD_TENSORS["of inference"] = torch.ones(2)

CALLABLES = {
    "a function of nothing": lambda: torch.ones(2, 3),
    "a function that returns None": lambda: None,
    "a function that returns a number": lambda: 1.0,
    "a function that returns text": lambda: "x",
    "a function that returns a function": lambda: boom,
    "a function that returns something ragged": lambda: [[1], [2, 3]],
    "a function that returns something hostile": Hostile,
    "a function that returns a lazy parameter": nn.UninitializedParameter,
    "a function that returns a tensor on meta": lambda: torch.ones(2, device="meta"),
    "a function that returns what has a gradient": lambda: torch.ones(2, requires_grad=True) * 2,
    "a function that raises": lambda: boom(),
    "a function for ever": endless,
    "a function of a keyword": lambda *, a: 1,
    "a function of two": lambda a, b: 1,
    "a generator function": dimensions,
    "an initialiser": nn.init.zeros_,
    "an initialiser of matrices": nn.init.xavier_uniform_,
    "an initialiser that returns text": lambda t: "abc",
    "an initialiser that returns another shape": lambda t: torch.ones(7),
    "a method": torch.Tensor.normal_,
    "a builtin": torch.rand,
    "a module": nn.Linear(2, 2),
    "a class": nn.Linear,
    "a type": type,
    "a hostile callable": HostileCallable(),
}

VALUES = {
    **{repr(number): number for number in (None, True, False, 0, 1, -1, 1.5, 1j, 2**70, -(2**70))},
    **{repr(number): number for number in (float("nan"), float("inf"), float("-inf"))},
    **{repr(text): text for text in ("", "w", "cpu", "meta", "cuda:99", "nowhere", "a\0b")},
    **{repr(text): text for text in ("\ud800", b"ab", bytearray(b"ab"), "max_norm", "clip", "SUM")},
    **{repr(items): items for items in ([], [[]], [1, 2], [1.0, 2.0], [[1, 2], [3]], [1, [2]])},
    **{repr(items): items for items in ((2,), (2, 3), (-1,), (2, -1), (2.0,), (None,), ("2",))},
    **{repr(items): items for items in ((2**40,), (2**62, 2**62), (2**63,), (2**70,), (2,) * 70)},
    **{repr(items): items for items in ({1, 2}, {"a": 1}, {0: 1}, range(3), frozenset([1]))},
    **{
        repr(config): config
        for config in (
            {"name": "max_norm", "max_value": "x"},
            {"name": "max_norm", "dim": [0]},
            {"name": "clip", 3: 4},
            {"name": "composed"},
            {"name": 3},
        )
    },
    "a list of itself": holding_itself(),
    "a list of what has no repr": [Unprintable()],
    "a shape with something hostile": (Hostile(),),
    "a generator": dimensions,  # called anew each time, by `absurd`
    "user dict": collections.UserDict(a=1),
    "an int of one's own": Count(2),
    "a word of somebody else's": Color.RED,
    "ellipsis": ...,
    "decimal": decimal.Decimal("1.5"),
    "fraction": fractions.Fraction(1, 2),
    "an object": object(),
    "np int": np.int64(3),
    "np float": np.float32(1.5),
    "np bool": np.bool_(True),
    "np complex": np.complex64(1j),
    "np matrix": np.ones((2, 3)),
    "np number": np.array(1.0),
    "np empty": np.ones((0, 2)),
    "np objects": np.array([object()], dtype=object),
    "np text": np.array(["a"]),
    "np dates": np.array(["2020-01-01"], dtype="datetime64"),
    "np reversed": np.arange(4.0)[::-1],
    "np swapped": np.ones(2, dtype=">f4"),
    "np record": np.zeros(2, dtype=[("a", "f4")]),
    "matrix": torch.ones(2, 3),
    "transposed": torch.ones(3, 2).T,
    "expanded": torch.ones(1).expand(3),
    "number": torch.tensor(1.0),
    "empty": torch.ones(0),
    "integers": torch.ones(2, dtype=torch.int64),
    "booleans": torch.tensor([True]),
    "complex": torch.ones(2, dtype=torch.complex64),
    "conjugated": torch.ones(2, dtype=torch.complex64).conj(),
    "with gradient": torch.ones(2, requires_grad=True),
    "no leaf": torch.ones(2, requires_grad=True) * 2,
    "on meta": torch.ones(2, device="meta"),
    "eight bits": torch.ones(2).to(torch.float8_e4m3fn),
    "bits without meaning": torch.empty(2, dtype=torch.bits8),
    "of one's own class": torch.ones(2).as_subclass(Wrapped),
    "parameter": nn.Parameter(torch.ones(2)),
    "lazy parameter": nn.UninitializedParameter(),
    "lazy buffer": nn.UninitializedBuffer(),
    "storage": torch.ones(2).untyped_storage(),
    **_ODD_TENSORS,
    **{str(dtype): dtype for dtype in (torch.float32, torch.int64, torch.bool, torch.complex64)},
    "quantized dtype": torch.qint8,
    "np dtype": np.dtype("f4"),
    "device": torch.device("cpu"),
    "meta device": torch.device("meta"),
    "layout": torch.strided,
    "a constraint": tc.constraints.MaxNorm(1.0),
    "a constraint of matrices": tc.constraints.Orthogonal(),
    "a constraint's class": tc.constraints.MaxNorm,
    "an aggregation": tc.VariableAggregation.MEAN,
    "a synchronization": tc.VariableSynchronization.ON_READ,
    "something hostile": Hostile(),
    "something that has no repr": Unprintable(),
    **CALLABLES,
}


def absurd(label):
    """Return the value of a label; an iterator is a new one each time."""
    return dimensions() if label == "a generator" else VALUES[label]
