"""Draws whose count depends on more than their arguments: no answer is given for them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.recorder.drawing import as_read, drawing_op, drawing_ops
from torchcreator._recorder.rng_outputs import draw_of

UNKNOWN = {
    "rejection": lambda: nn.init.trunc_normal_(torch.empty(50), std=0.5),
    "rejection by a shifted mean": lambda: nn.init.trunc_normal_(torch.empty(50), 1.9, 0.1),
    "rejection among serial values": lambda: nn.init.trunc_normal_(torch.empty(5), std=0.3),
    "sparse_": lambda: nn.init.sparse_(torch.empty(5, 5), 0.5),
    "poisson": lambda: torch.poisson(torch.ones(5)),
    "gamma": lambda: torch._standard_gamma(torch.ones(5)),
    "rrelu": lambda: F.rrelu(torch.ones(5), training=True),
    "random_ to the end": lambda: torch.empty(5, dtype=torch.int64).random_(5, None),
    "random_ beyond the digits": lambda: torch.empty(5).random_(1 << 25),
    "a bound for each": lambda: torch.randint_like(torch.empty(5), torch.ones(()).fill_(5)),
    "a negative deviation": lambda: torch.empty(50).normal_(0.0, -1.0),
    "a negative deviation of logarithms": lambda: torch.empty(5).log_normal_(0.0, -1.0),
    "bounds in the wrong order": lambda: torch.empty(50).uniform_(1.0, 0.0),
    "integers in the wrong order": lambda: torch.empty(50).random_(9, 3),
    "a chance above one": lambda: torch.empty(50).bernoulli_(1.5),
    "a rate of zero": lambda: torch.empty(50).exponential_(0.0),
    "a scale of zero": lambda: torch.empty(50).cauchy_(0.0, 0.0),
    "a certain success": lambda: torch.empty(50).geometric_(1.0),
    "a type that has no normal values": lambda: torch.empty(50, dtype=torch.int64).normal_(),
    "a type that has no uniform values": lambda: torch.empty(50, dtype=torch.int64).uniform_(),
    "a type of too few bits": lambda: torch.empty(50, dtype=torch.int8).random_(300),
    "a complex type for integers": lambda: torch.empty(5, dtype=torch.complex64).random_(7),
    "a complex type without bounds": lambda: torch.empty(5, dtype=torch.complex64).random_(),
    "a complex type for a coin": lambda: torch.empty(5, dtype=torch.complex64).bernoulli_(0.5),
    "a truncated integer": lambda: nn.init.trunc_normal_(torch.empty(50, dtype=torch.int64)),
    "orthogonal half precision": lambda: nn.init.orthogonal_(torch.empty(5, 5).bfloat16()),
}


@as_read
@pytest.mark.parametrize("name", UNKNOWN)
def test_what_depends_on_more_is_not_known(name):
    """A count that depends on the numbers drawn, or a call that fails, is not answered for."""
    assert [draw_of(op) for op in drawing_ops(UNKNOWN[name])] == [None]


def test_a_layer_that_torch_refuses_is_not_known():
    """A kaiming initialisation that would be an error or a warning is left to torch."""
    op = drawing_op(lambda: nn.init.kaiming_uniform_(torch.empty(3, 5)))
    (ref,), words = op.args, op.kwargs
    assert draw_of(op) is not None
    assert draw_of(op._replace(kwargs={**words, "mode": "fan_sideways"})) is None
    assert draw_of(op._replace(args=(ref._replace(size=torch.Size([15]), stride=(1,)),))) is None
    assert draw_of(op._replace(args=(ref._replace(size=torch.Size([3, 0])),))) is None
    assert draw_of(op._replace(args=(ref, 0.5))) is None


def test_weights_that_torch_refuses_are_not_known():
    """A sample by weights that are no floating-point numbers is left to torch."""
    op = drawing_op(lambda: torch.multinomial(torch.ones(5), 2))
    (ref, samples) = op.args
    assert draw_of(op) is not None
    assert draw_of(op._replace(args=(ref._replace(dtype=torch.int64), samples))) is None
