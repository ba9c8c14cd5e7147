"""Read what a model's parameters are, wherever and in whatever state they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torchcreator._recorder.origins import DEFERRED, Places, carried
from torchcreator._recorder.recording import Recording
from torchcreator._spec.held import Held
from torchcreator._spec.spec import VariableSpec
from torchcreator._torch.dtensor import is_sharded
from torchcreator.report._rows import TIED, Decision, Row


def buffers_of(model: nn.Module) -> tuple[int, int]:
    """Return how many buffers a model has, and their bytes."""
    buffers = [b for b in model.buffers() if not is_lazy(b)]
    return len(buffers), sum(_nbytes(buffer) for buffer in buffers)


def recording_of(model: nn.Module) -> Recording | None:
    """Return what a deferred model takes its values from, or None for any other model."""
    places: Places | None = model.__dict__.get(DEFERRED)
    return None if places is None else places.recording


def place_of(held: Held, recording: Recording | None) -> torch.device:
    """Return where a parameter is; of a deferred model, where it will be."""
    parameter = held.parameter
    if recording is None or not parameter.is_meta:
        return parameter.device
    origin = carried(parameter, recording)
    module, local = held.places[0]
    places: Places | None = module.__dict__.get(DEFERRED)
    if origin is None and places is not None:
        origin = places.origin_of(local)
    if origin is None or origin.ref is None:
        return parameter.device
    return recording.tape.device(origin.ref.storage)


def row_of(
    held: Held,
    parameter: nn.Parameter,
    spec: VariableSpec | None,
    device: torch.device,
    decisions: tuple[Decision, ...],
) -> Row:
    """Return what a parameter is.

    Args:
        held: Where it is in the model.
        parameter: The parameter itself, or what will be made in its place.
        spec: What it was declared as, if it was.
        device: Where it is or will be.
        decisions: What the creators did to it.
    """
    declared: dict[str, Any] = {}
    if spec is not None:
        declared = {
            "constraint": spec.constraint,
            "synchronization": spec.synchronization,
            "aggregation": spec.aggregation,
            "tags": {key: value for key, value in spec.tags.items() if key != TIED},
        }
    placements: Any = parameter.placements if is_sharded(parameter) else ()
    return Row(
        name=held.names[0],
        module=held.names[0].rpartition(".")[0],
        module_type=type(held.places[0][0]).__name__,
        shape=None if is_lazy(parameter) else parameter.shape,
        dtype=parameter.dtype,
        device=device,
        trainable=parameter.requires_grad,
        declared=spec is not None,
        ties=tuple(held.names[1:]),
        decisions=decisions,
        placements=", ".join(map(repr, placements)) or None,
        local_nbytes=0 if is_lazy(parameter) else _nbytes(parameter),
        **declared,
    )


def _nbytes(tensor: torch.Tensor) -> int:
    """Return the bytes that this process holds, or would hold, of a tensor."""
    if is_sharded(tensor):
        tensor = tensor.to_local()
    return tensor.numel() * tensor.dtype.itemsize
