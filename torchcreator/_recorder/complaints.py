"""What is said where a constructor cannot be recorded, or its model's values cannot be made."""

from __future__ import annotations

import sys

import torch
from torch import nn

from torchcreator._call_site import Line
from torchcreator._errors import BuildError
from torchcreator._recorder.live_tensors import ORIGIN, named_tensors
from torchcreator._recorder.replay import LINE, Unseen
from torchcreator._recorder.tape import Op
from torchcreator._torch.dispatch import no_function_modes
from torchcreator._torch.tensors import is_plain_meta, storage_key


def unrecordable(what: str, tensor: torch.Tensor, line: Line) -> BuildError:
    """Return the error for a call on a recorded tensor that no recorder could see through.

    Args:
        what: The function.
        tensor: What it was called on.
        line: Where that was.
    """
    return BuildError(
        f"{what} of {whose(tensor)} cannot be recorded; it was called at {line}.",
        "While a model is built its tensors have no memory yet, so none can be read, written "
        "or handed on without torch seeing it.",
        "Do it after build(), or construct this model without build().",
    )


def unseen(tensor: torch.Tensor) -> Unseen:
    """Return what stands for the unknown content of a tensor."""
    if ORIGIN in tensor.__dict__:
        return Unseen(
            "It belongs to a model that was deferred before, and waits for values of its own.",
            "Call materialize() on that model first; or make it in this factory.",
        )
    return Unseen(
        "It was on the meta device before the build, or was made where no recorder sees it: in "
        "another thread, or from a storage.",
        "Give it memory first, or make it in the factory's own thread, by torch's functions.",
    )


def failed(error: BaseException, what: str, line: Line) -> BuildError:
    """Return the error for one that torch raised because tensors have no memory yet.

    Args:
        error: What torch raised.
        what: What was going on.
        line: The user's line.
    """
    return BuildError(
        f"{what} at {line}, and torch fails.",
        f"{type(error).__name__}: {str(error).partition(LINE)[0]}. While a model is built its "
        "tensors have no memory yet: torch has them on meta.",
        "Do it after build(), or construct this model without build().",
    )


def whose(tensor: torch.Tensor) -> str:
    """Return what a tensor is to the modules that the calling frames know: its full name there."""
    whose = f"a tensor of shape {tuple(tensor.shape)}"
    key, frame = storage_key(tensor), sys._getframe(1)
    with no_function_modes():
        while frame.f_back is not None:
            frame = frame.f_back
            modules = [v for v in frame.f_locals.values() if issubclass(type(v), nn.Module)]
            for module in (module for module in modules if "_modules" in vars(module)):
                for name, held, _ in named_tensors(module):
                    if is_plain_meta(held) and storage_key(held) == key:
                        whose = f"{type(module).__name__}'s {name!r}"
    return whose


def not_initialised(label: str, empty: Op) -> BuildError:
    """Return the error for a parameter that holds what the memory held that it was given."""
    return BuildError(
        f"Parameter {label!r} is not initialised; {empty.name} was called at {empty.line}.",
        "Its constructor leaves it, or part of it, as the memory was found: garbage.",
        "Initialise it in the constructor, or set initial_value in a creator.",
    )
