"""The copy of a variable on its caching device, in and out of ``inference_mode``."""

from __future__ import annotations

import torch

import torchcreator as tc


def test_a_copy_may_be_made_in_inference_mode():
    """Whoever asks first: the copy is used again, is seen to be stale, and serves in training."""
    v = tc.variable([1.0, 2.0], caching_device="cpu")
    with torch.inference_mode():
        assert tc.read_value(v).tolist() == [1.0, 2.0]
        assert tc.read_value(v).tolist() == [1.0, 2.0]
    tc.read_value(v).sum().backward()
    assert v.grad.tolist() == [1.0, 1.0]
    tc.assign(v, [3.0, 4.0])
    with torch.inference_mode():
        assert tc.read_value(v).tolist() == [3.0, 4.0]


def test_a_variable_of_inference_mode_is_read():
    """It does not count its writes, so a copy is made at each read, and none is stale."""
    with torch.inference_mode():
        v = tc.variable([1.0, 2.0], caching_device="cpu")
        assert v.is_inference()
        assert tc.read_value(v).tolist() == [1.0, 2.0]
        tc.assign(v, [3.0, 4.0])
        assert tc.read_value(v).tolist() == [3.0, 4.0]
    assert tc.read_value(v).tolist() == [3.0, 4.0]
