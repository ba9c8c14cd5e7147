"""What a user reads of a variable's arguments.

The whole text of the messages that users meet most is written out; of the others, the parts that
change with the input.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.messages.parts import TYPE, VALUE, message_of

ONLY_NUMBERS = "Pass a tensor, an array, a number or a rectangular nested list of numbers."
KEYWORDS = (
    "initial_value, trainable, validate_shape, caching_device, name, dtype, constraint, "
    "synchronization, aggregation, shape, device, process_group, tags, module"
)
WHOLE = {
    "an unknown keyword": (
        TYPE,
        {"initial_value": 1.0, "trainble": False},
        "Variable 'w' got an unexpected keyword 'trainble' (did you mean 'trainable'?).\n"
        f"A variable takes {KEYWORDS}.\n"
        "Correct the keyword, or pass the value to the creators in tags={...}.",
    ),
    "no initial value": (
        VALUE,
        {},
        "Variable 'w' has no initial_value.\n"
        "Neither its caller nor a creator gave one, and no module waits to initialise it: that "
        "holds once for each parameter of a stock module.\n"
        "Pass a tensor, a number, a callable, or shape= with an initialiser such as "
        "torch.nn.init.zeros_; or validate_shape=False without shape= to leave it uninitialised.",
    ),
    "another shape": (
        VALUE,
        {"initial_value": [1.0, 2.0], "shape": (3,)},
        "The initial value of variable 'w' has another shape than it declares.\n"
        "  expected: (3,)\n"
        "  actual:   (2,)\n"
        "Shapes must be equal: an initial value is never broadcast.\n"
        "Pass a value of that shape, or leave shape= out.",
    ),
    "another dtype": (
        VALUE,
        {"initial_value": torch.zeros(1), "dtype": torch.float64},
        "The initial value of variable 'w' has another dtype than it declares.\n"
        "  expected: torch.float64\n"
        "  actual:   torch.float32\n"
        "A tensor is never cast silently: that hides bugs.\n"
        "Pass value.to(torch.float64), or leave dtype= out.",
    ),
    "a ragged list": (
        VALUE,
        {"initial_value": [[1.0], [1.0, 2.0]]},
        "The initial value of variable 'w' is [[1.0], [1.0, 2.0]].\n"
        "torch cannot make a tensor of it: expected sequence of length 1 at dim 1 (got 2).\n"
        + ONLY_NUMBERS,
    ),
    "an initialiser without a shape": (
        TYPE,
        {"initial_value": nn.init.zeros_},
        "The initial value of variable 'w' is a callable that needs an argument.\n"
        "Without shape=, it is called without one: zeros_() missing 1 required positional "
        "argument: 'tensor'.\n"
        "Pass shape= with an in-place initialiser such as nn.init.zeros_, or a function without "
        "arguments.",
    ),
    "trainable integers": (
        TYPE,
        {"initial_value": 1, "trainable": True},
        "Variable 'w' is trainable with dtype torch.int64.\n"
        "Only floating and complex tensors have gradients.\n"
        "Pass trainable=False, or a floating dtype.",
    ),
    "a trainable that is no bool": (
        TYPE,
        {"initial_value": 1.0, "trainable": 1},
        "The trainable of variable 'w' is 1.\n"
        "It becomes requires_grad, which is True or False.\n"
        "Pass True, False, or None for the default.",
    ),
    "an unknown aggregation": (
        VALUE,
        {"initial_value": 1.0, "aggregation": "average"},
        "Invalid variable aggregation mode: 'average' (did you mean 'mean'?) for variable: w\n"
        "The aggregation says when or how the values of several ranks become one.\n"
        "Use one of 'none', 'sum', 'mean', 'only_first_replica', or a VariableAggregation.",
    ),
    "an unknown synchronization": (
        VALUE,
        {"initial_value": 1.0, "synchronization": 7},
        "Invalid variable synchronization mode: 7 for variable: w\n"
        "The synchronization says when or how the values of several ranks become one.\n"
        "Use one of 'auto', 'none', 'on_write', 'on_read', or a VariableSynchronization.",
    ),
    "a mean of integers": (
        VALUE,
        {"initial_value": 1, "aggregation": "mean"},
        "Variable 'w' has aggregation MEAN and dtype torch.int64.\n"
        "A mean of several ranks is not exact in a dtype that is not floating.\n"
        "Use aggregation='sum' or 'only_first_replica', or a floating dtype.",
    ),
    "a fraction for an integer": (
        TYPE,
        {"initial_value": [1, 1.5], "dtype": torch.int32},
        "The initial value of variable 'w' is [1, 1.5].\n"
        "Converting it to torch.int32 would drop its fraction.\n"
        "Pass integers, or a floating dtype.",
    ),
    "a dtype of another library": (
        TYPE,
        {"initial_value": 1.0, "dtype": np.float32},
        "The dtype of variable 'w' is <class 'numpy.float32'>, a type.\n"
        "A parameter's dtype is one of torch's.\n"
        "Pass a torch.dtype, dtype=torch.float32, say.",
    ),
    "a shape that is a number": (
        TYPE,
        {"initial_value": 1.0, "shape": 3},
        "The shape of variable 'w' is 3.\n"
        "A shape is a sequence of integers.\n"
        "Write it as a tuple, shape=(out_features, in_features), say.",
    ),
    "a negative dimension": (
        VALUE,
        {"initial_value": nn.init.zeros_, "shape": (2, -1)},
        "The shape of variable 'w' is (2, -1).\n"
        "A dimension cannot be negative: nothing is there to infer it from.\n"
        "Write every dimension as a number from 0 upwards.",
    ),
    "no process group": (
        TYPE,
        {"initial_value": 1.0, "process_group": "workers"},
        "The process_group of variable 'w' is 'workers'.\n"
        "A variable is aggregated over a group of torch.distributed.\n"
        "Pass what torch.distributed.new_group(...) returned, or None for the default group.",
    ),
    "tags that are no mapping": (
        TYPE,
        {"initial_value": 1.0, "tags": ["decay"]},
        "The tags of variable 'w' are ['decay'].\n"
        "Tags are what the caller tells the creators, by name.\n"
        "Pass a mapping, tags={'decay': False}, say.",
    ),
}


@pytest.mark.parametrize(("kind", "keywords", "expected"), WHOLE.values(), ids=WHOLE)
def test_the_whole_message(kind, keywords, expected):
    """What is wrong with which value of which variable, why, and what to write instead."""
    assert message_of(kind, lambda: tc.variable(**keywords, name="w")) == expected


PARTS = {
    "a dictionary": (TYPE, {"initial_value": {}}, ["'w' is {}.", "infer dtype of dict."]),
    "text": (TYPE, {"initial_value": "abc"}, ["'w' is 'abc'.", ONLY_NUMBERS]),
    "None in a list": (TYPE, {"initial_value": [1.0, None]}, ["'w' is [1.0, None]."]),
    "a half-nested list": (TYPE, {"initial_value": [[1.0], 2.0]}, ["not a sequence."]),
    "an array of objects": (TYPE, {"initial_value": np.array([None])}, ["and bool.\n"]),
    "larger than int64": (VALUE, {"initial_value": 2**70}, ["1180591620717411303424", "Overflow"]),
    "larger than int8": (VALUE, {"initial_value": 300, "dtype": torch.int8}, ["is 300.", "int8"]),
    "complex for float": (TYPE, {"initial_value": 1j, "dtype": torch.float32}, ["is 1j."]),
    "a long list": (TYPE, {"initial_value": [{}] * 1000}, ["is [{}, {}, ", ", {}, ....\n"]),
    "a number for a vector": (VALUE, {"initial_value": 0.0, "shape": [3]}, ["actual:   ()"]),
    "a callable that returns None": (
        TYPE,
        {"initial_value": lambda: None},
        ["a callable that returned None.", "Return a tensor; or pass shape="],
    ),
    "a callable that returns text": (TYPE, {"initial_value": lambda: "a"}, ["'w' is 'a'."]),
    "a callable's dtype": (
        VALUE,
        {"initial_value": lambda: torch.zeros(1), "dtype": torch.float16},
        ["expected: torch.float16\n  actual:   torch.float32"],
    ),
    "a partial that lacks an argument": (
        TYPE,
        {"initial_value": functools.partial(nn.init.normal_, std=0.02)},
        ["needs an argument.", "missing 1 required positional argument: 'tensor'"],
    ),
    "a shape that is text": (TYPE, {"initial_value": 1.0, "shape": "ab"}, ["is 'ab'."]),
    "a shape with None": (TYPE, {"initial_value": 1.0, "shape": (None, 2)}, ["is (None, 2)."]),
    "an unknown shape that is known": (
        VALUE,
        {"validate_shape": False, "shape": (2,)},
        ["has no initial_value.", "validate_shape=False without shape="],
    ),
    "a dtype that is text": (
        TYPE,
        {"initial_value": 1.0, "dtype": "float16"},
        ["'float16', a str"],
    ),
    "an unknown device": (
        VALUE,
        {"initial_value": 1.0, "device": "nowhere"},
        ["The device of variable 'w' is 'nowhere'.", "nowhere\n", "device='cpu'"],
    ),
    "an unknown caching device": (
        VALUE,
        {"initial_value": 1.0, "caching_device": "nowhere"},
        ["The caching_device of variable 'w' is 'nowhere'.", "caching_device='cpu'"],
    ),
    "a device that is a number with a fraction": (
        TYPE,
        {"initial_value": 1.0, "device": 3.5},
        ["is 3.5."],
    ),
    "a constraint that is a number": (
        TYPE,
        {"initial_value": 1.0, "constraint": 3},
        ["Invalid constraint 3 for variable: w"],
    ),
    "a constraint's class": (
        TYPE,
        {"initial_value": 1.0, "constraint": tc.constraints.MaxNorm},
        ["MaxNorm", "with brackets"],
    ),
    "a misspelt constraint": (
        VALUE,
        {"initial_value": 1.0, "constraint": "max_nrom"},
        ["Unknown constraint 'max_nrom' for variable: w (did you mean 'max_norm'?)"],
    ),
    "a mean of complex numbers": (
        VALUE,
        {"initial_value": 1j, "aggregation": "MEAN"},
        ["MEAN and dtype torch.complex64"],
    ),
    "a strange keyword": (
        TYPE,
        {"initial_value": 1.0, "frobnicate": 3},
        ["unexpected keyword 'frobnicate'.", "tags={...}"],
    ),
}


@pytest.mark.parametrize(("kind", "keywords", "parts"), PARTS.values(), ids=PARTS)
def test_the_parts_that_change(kind, keywords, parts):
    """Whatever is passed, the message shows it, and names the variable."""
    message = message_of(kind, lambda: tc.variable(**keywords, name="w"))
    assert all(part in message for part in ["w", *parts])
