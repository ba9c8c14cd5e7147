"""What people pass by mistake, or have at hand, in place of an argument."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import torchcreator as tc


class BoomError(Exception):
    """Raised on purpose."""


def boom(*args, **kwargs):
    raise BoomError


def dimensions():
    yield 2
    yield 3


CALLABLES = {
    "a function of nothing": lambda: torch.ones(2, 3),
    "a function that returns None": lambda: None,
    "a function that returns a number": lambda: 1.0,
    "a function that returns text": lambda: "x",
    "a function that returns something ragged": lambda: [[1.0], [2.0, 3.0]],
    "a function that returns a tensor on meta": lambda: torch.ones(2, device="meta"),
    "a function that returns what has a gradient": lambda: torch.ones(2, requires_grad=True) * 2,
    "a function that raises": boom,
    "a function of two": lambda a, b: 1,
    "an initialiser": nn.init.zeros_,
    "an initialiser of matrices": nn.init.xavier_uniform_,
    "an initialiser that returns another shape": lambda t: torch.ones(7),
    "a method": torch.Tensor.normal_,
    "a builtin": torch.rand,
    "a module": nn.Linear(2, 2),
    "a class": nn.Linear,
}

VALUES = {
    **{repr(number): number for number in (None, True, False, 0, 1, -1, 1.5, 1j)},
    **{repr(number): number for number in (float("nan"), float("inf"))},
    **{repr(text): text for text in ("", "w", "cpu", "meta", "cuda:99", "nowhere", "float32")},
    **{repr(text): text for text in ("max_norm", "clip", "SUM", "on_read")},
    **{repr(items): items for items in ([], [1, 2], [1.0, 2.0], [[1, 2], [3]])},
    **{repr(items): items for items in ((2,), (2, 3), (-1,), (2.0,), (None,), ("2",))},
    **{repr(items): items for items in ({1, 2}, {"a": 1}, range(3))},
    **{
        repr(config): config
        for config in (
            {"name": "max_norm", "max_value": "x"},
            {"name": "max_norm", "dim": [0]},
            {"name": "composed"},
            {"name": 3},
        )
    },
    "a generator": dimensions,  # called anew each time, by `mistake`
    "np int": np.int64(3),
    "np float": np.float32(1.5),
    "np bool": np.bool_(True),
    "np matrix": np.ones((2, 3)),
    "np number": np.array(1.0),
    "np empty": np.ones((0, 2)),
    "np text": np.array(["a"]),
    "np reversed": np.arange(4.0)[::-1],
    "matrix": torch.ones(2, 3),
    "transposed": torch.ones(3, 2).T,
    "expanded": torch.ones(1).expand(3),
    "number": torch.tensor(1.0),
    "empty": torch.ones(0),
    "integers": torch.ones(2, dtype=torch.int64),
    "booleans": torch.tensor([True]),
    "complex": torch.ones(2, dtype=torch.complex64),
    "with gradient": torch.ones(2, requires_grad=True),
    "no leaf": torch.ones(2, requires_grad=True) * 2,
    "on meta": torch.ones(2, device="meta"),
    "sparse": torch.eye(3).to_sparse(),
    "parameter": nn.Parameter(torch.ones(2)),
    "lazy parameter": nn.UninitializedParameter(),
    **{str(dtype): dtype for dtype in (torch.float32, torch.int64, torch.bool, torch.complex64)},
    "np dtype": np.dtype("f4"),
    "device": torch.device("cpu"),
    "meta device": torch.device("meta"),
    "a constraint": tc.constraints.MaxNorm(1.0),
    "a constraint of matrices": tc.constraints.Orthogonal(),
    "a constraint's class": tc.constraints.MaxNorm,
    "an aggregation": tc.VariableAggregation.MEAN,
    "a synchronization": tc.VariableSynchronization.ON_READ,
    **CALLABLES,
}


def mistake(label):
    """Return the value of a label; an iterator is a new one each time."""
    return dimensions() if label == "a generator" else VALUES[label]
