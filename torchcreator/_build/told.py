"""The errors for what was done to a deferred model and cannot be followed."""

from __future__ import annotations

import torch
from torch import nn

from torchcreator._errors import BuildError


def added(name: str, tensor: torch.Tensor) -> BuildError:
    """Return the error for what is on meta without a recorded value."""
    return BuildError(
        f"{name!r} is on the meta device, and was added since defer().",
        f"No recorded value belongs to this {type(tensor).__name__}: a weight_norm, an adapter, "
        "a forward on meta, or an assignment made it.",
        "Add it after materialize(), or in the factory; or give it memory and a value yourself.",
    )


def copied_wrapper(name: str, tensor: torch.Tensor) -> BuildError:
    """Return the error for a copy of a tensor that is made of others."""
    return BuildError(
        f"{name!r} is a copy of a {type(tensor).__name__}, on the meta device.",
        "It is made of other tensors, whose copies torch makes where none can be followed.",
        "Materialize the model that defer() returned, and copy that.",
    )


def other_shape(name: str, tensor: torch.Tensor, expected: torch.Size) -> BuildError:
    """Return the error for a tensor of another shape than was recorded."""
    return BuildError(
        f"{name!r} has another shape than its constructor gave it.\n"
        f"  expected: {tuple(expected)}\n"
        f"  actual:   {tuple(tensor.shape)}",
        "It was exchanged since defer(), so its recorded value does not fit.",
        "Call materialize() first, or make that change in the factory.",
    )


def has_memory(name: str, tensor: torch.Tensor) -> BuildError:
    """Return the error for a tensor whose memory came past torch's registration."""
    return BuildError(
        f"{name!r} has memory already, on {tensor.device}: to_empty() was called since "
        "defer(), or something put it there past torch's registration.",
        "Whether that is garbage or a value cannot be told from outside.",
        "Leave to_empty() out: materialize(model, device=...) makes memory and values. What is "
        "assigned (model.weight = nn.Parameter(...), load_state_dict(assign=True)) is kept.",
    )


def written(name: str) -> BuildError:
    """Return the error for a tensor that was written to."""
    return BuildError(
        f"{name!r} was written to since defer().",
        "On the meta device a write leaves nothing behind, so materialize() cannot do it again.",
        "Do this in the factory (defer(lambda: init(Model())), say), or after materialize().",
    )


def exchanged(name: str) -> BuildError:
    """Return the error for a tensor that holds something else."""
    return BuildError(
        f"What {name!r} holds was exchanged since defer().",
        "On the meta device nothing says what was computed, so no value belongs to it.",
        "Do this in the factory, or after materialize(). Conversions to another dtype are kept.",
    )


def elsewhere(name: str) -> BuildError:
    """Return the error for a tensor of another deferred model."""
    return BuildError(
        f"{name!r} comes from another deferred model.",
        "A model takes its values from one record of one constructor.",
        "Call materialize() on that one first; or construct both in one factory.",
    )


def not_deferred(model: nn.Module) -> BuildError:
    """Return the error for a model that nothing waits for."""
    kind = type(model).__name__
    on_meta = next((n for n, p in model.named_parameters() if p.is_meta), None)
    if on_meta is not None:
        return BuildError(
            f"This {kind} was not deferred, although its {on_meta!r} is on the meta device.",
            "It was made on meta by other means.",
            "Call materialize() on what defer() returned, or model.to_empty() and initialise it.",
        )
    return BuildError(
        f"This {kind} was not deferred, or is materialised already.",
        "Its parameters have memory, and no recorded values wait for them.",
        "Call materialize() once, on what defer() returned.",
    )
