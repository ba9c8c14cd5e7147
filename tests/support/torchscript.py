"""TorchScript, which torch deprecates: its own warning passes here, and nowhere else."""

from __future__ import annotations

import contextlib
import warnings

import torch


@contextlib.contextmanager
def deprecated():
    """Let ``torch.jit`` say that it is deprecated, under whichever class this torch says it."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is ", category)
        yield


def script(module):
    """Return a module as TorchScript."""
    with deprecated():
        return torch.jit.script(module)


def reloaded(module, path):
    """Save a module of TorchScript, and load it again."""
    with deprecated():
        torch.jit.save(module, path)
        return torch.jit.load(path)
