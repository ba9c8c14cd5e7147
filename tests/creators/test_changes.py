"""What counts as a change of a keyword, and how a report words a value."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchcreator._spec.enums import VariableAggregation
from torchcreator.creators._changes import differs, in_words


@pytest.mark.parametrize(
    ("keyword", "before", "after", "expected"),
    [
        pytest.param("device", "cuda", "cuda:0", False, id="the current device, by its index"),
        pytest.param("device", "cuda:0", "cuda:1", True, id="another index"),
        pytest.param("device", "cpu", "meta", True, id="another kind of device"),
        pytest.param("device", None, "cpu", False, id="a default worked out"),
        pytest.param("device", "nowhere", "cpu", True, id="what stands for nothing"),
        pytest.param("aggregation", "mean", VariableAggregation.MEAN, False, id="another spelling"),
        pytest.param("initial_value", torch.ones(2), torch.ones(2), True, id="another tensor"),
        pytest.param("initial_value", np.ones(2), np.ones(2), True, id="another array"),
    ],
)
def test_a_change_is_one_of_meaning(keyword, before, after, expected):
    """Spellings and defaults are no changes; a value is the same only if it is the same object."""
    assert differs(keyword, before, after) is expected
    assert differs(keyword, after, before) is expected
    assert not differs(keyword, before, before)


@pytest.mark.parametrize(
    ("keyword", "value", "text"),
    [
        pytest.param("initial_value", torch.ones(2, 3), "Tensor (2, 3) float32", id="tensor"),
        pytest.param("aggregation", "mean", "MEAN", id="policy"),
        pytest.param("dtype", torch.bfloat16, "bfloat16", id="dtype"),
        pytest.param("module", torch.nn.Linear(1, 1), "Linear", id="module"),
        pytest.param("initial_value", None, "its own", id="module's own value"),
        pytest.param("name", "x" * 200, "x" * 117 + "...", id="long"),
    ],
)
def test_values_are_worded_without_addresses(keyword, value, text):
    """The same value gives the same words in every process, and not too many."""
    assert in_words(keyword, value) == text
