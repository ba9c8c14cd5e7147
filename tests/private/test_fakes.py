"""Fake tensors, by torch's private names."""

from __future__ import annotations

import torch

from torchcreator import _private


def test_fake_tensors_are_made_and_recognised():
    """A fake has the shape, strides and dtype of what it stands for, on any device."""
    mode = _private.fake_mode()
    fake = _private.faked(mode, torch.ones(2, 3).t(), "cuda")
    assert _private.is_fake(fake)
    assert not _private.is_fake(torch.ones(1))
    assert (fake.shape, fake.stride(), fake.device.type) == ((3, 2), (1, 3), "cuda")


def test_a_mode_of_fakes_is_recognised():
    """A mode of fake tensors is told from another mode."""

    class Mode(_private.TorchDispatchMode):
        pass

    assert _private.is_fake_mode(_private.fake_mode())
    assert not _private.is_fake_mode(Mode())
