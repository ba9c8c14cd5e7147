"""What training takes on each rank: parameters, gradients, and the states of an optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from torchcreator._errors import VariableValueError, did_you_mean
from torchcreator._spec.enums import VariableSynchronization
from torchcreator.report._rows import Row
from torchcreator.report._text import aligned, size

STATES: Mapping[str, tuple[str, ...]] = {
    "adadelta": ("square_avg", "acc_delta"),
    "adagrad": ("sum",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamax": ("exp_avg", "exp_inf"),
    "adamw": ("exp_avg", "exp_avg_sq"),
    "asgd": ("ax",),
    "nadam": ("exp_avg", "exp_avg_sq"),
    "radam": ("exp_avg", "exp_avg_sq"),
    "rmsprop": ("square_avg",),
    "rprop": ("prev", "step_size"),
    "sgd": (),
    "sgd+momentum": ("momentum_buffer",),
}
"""What each optimizer of torch's keeps, a value for each element that is trained."""

_OWN = (VariableSynchronization.NONE, VariableSynchronization.ON_READ)


def training(rows: Iterable[Row], optimizer: str, ranks: int) -> dict[str, Any]:
    """Return the bytes that training takes on the rank that has most, as plain data.

    Raises:
        VariableValueError: The optimizer is not known.
    """
    states = STATES.get(optimizer)
    if states is None:
        raise VariableValueError(
            f"There is no optimizer {optimizer!r}{did_you_mean(optimizer, STATES)}.",
            "What training takes depends on what the optimizer keeps.",
            f"Pass one of {', '.join(STATES)}.",
        )
    rows = list(rows)
    return {
        "optimizer": optimizer,
        "states": list(states),
        "ranks": ranks,
        "replicated": _bytes(rows, [row.local_nbytes for row in rows], len(states)),
        "sharded": _bytes(rows, [_part(row, ranks) for row in rows], len(states)),
    }


def _bytes(rows: Sequence[Row], held: Sequence[int], states: int) -> dict[str, int]:
    trained = sum(part for row, part in zip(rows, held, strict=True) if row.trainable)
    parts = {"parameters": sum(held), "gradients": trained, "states": states * trained}
    return {**parts, "together": sum(parts.values())}


def _part(row: Row, ranks: int) -> int:
    """Return what FSDP2 leaves of a variable on the first rank: whole rows, rounded up."""
    if row.synchronization in _OWN or row.placements or not row.shape:
        return row.local_nbytes
    rows = -(-row.shape[0] // ranks)
    return rows * torch.Size(row.shape[1:]).numel() * row.dtype.itemsize


def in_words(found: Mapping[str, Any]) -> str:
    """Return what `training` found as a table, and how it was computed."""
    optimizer, states, ranks = found["optimizer"], found["states"], found["ranks"]
    on = "one rank" if ranks == 1 else f"each of {ranks:,} ranks"
    titles = {
        "parameters": "parameters",
        "gradients": "gradients",
        "states": f"states of {optimizer}",
        "together": "together",
    }
    columns = ("replicated", "sharded")
    rows = [[f"training, on {on}", "replicated (DDP)", "sharded (FSDP2)"]]
    rows += [[title, *(size(found[c][key]) for c in columns)] for key, title in titles.items()]
    kept = f"{len(states)} × gradients ({', '.join(states)})" if states else "none"
    return (
        f"{aligned(rows, right=(1, 2))}\n\n"
        "parameters = elements × bytes of the dtype; gradients = the same of what is trainable;\n"
        f"states = {kept}.\n"
        f"Replicated: each rank has all. Sharded: ceil(rows / {ranks:,}) of what is one value on "
        "all ranks,\nand all of what each has for itself (synchronization NONE, ON_READ).\n"
        "Not counted: buffers, activations, communication, and what a step takes for a moment."
    )
