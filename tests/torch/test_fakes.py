"""Fake tensors, by torch's private names."""

from __future__ import annotations

import torch

from torchcreator._torch.dispatch import TorchDispatchMode
from torchcreator._torch.fakes import fake_mode, faked, is_fake, is_fake_mode


def test_fake_tensors_are_made_and_recognised():
    """A fake has the shape, strides and dtype of what it stands for, on any device."""
    mode = fake_mode()
    fake = faked(mode, torch.ones(2, 3).t(), "cuda")
    assert is_fake(fake)
    assert not is_fake(torch.ones(1))
    assert (fake.shape, fake.stride(), fake.device.type) == ((3, 2), (1, 3), "cuda")


def test_a_mode_of_fakes_is_not_entered(monkeypatch):
    """Entering it would tell the whole process that a mode is active, other threads included."""
    mode, entered = fake_mode(), []
    monkeypatch.setattr(type(mode), "__enter__", entered.append)
    assert is_fake(faked(mode, torch.ones(1), "cpu"))
    assert entered == []


def test_a_mode_of_fakes_is_recognised():
    """A mode of fake tensors is told from another mode."""

    class Mode(TorchDispatchMode):
        pass

    assert is_fake_mode(fake_mode())
    assert not is_fake_mode(Mode())
