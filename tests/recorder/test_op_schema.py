"""What is known about an operation is that operation's."""

from __future__ import annotations

import gc

import torch

from torchcreator._recorder import op_schema


def test_another_operation_does_not_answer_for_one_that_is_gone():
    """An operation of a library that was unloaded keeps its id for itself, so no other gets it."""
    numbers = set()
    for round_ in range(4):
        with torch.library._scoped_library("tests_op_schema", "DEF") as library:
            writes = round_ % 2
            library.define(f"one{round_}(Tensor{'(a!)' if writes else ''} x) -> ()")
            operation = getattr(torch.ops.tests_op_schema, f"one{round_}").default
            traits = op_schema.traits_of(operation)
            assert traits.written == (frozenset({0}) if writes else frozenset())
            assert id(operation) not in numbers
            numbers.add(id(operation))
        del operation
        gc.collect()
