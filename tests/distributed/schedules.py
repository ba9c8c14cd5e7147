"""Ways to accumulate gradients before a step, and how many backwards each of them leaves behind."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tests.distributed.models import feed

# `held` is what has the no_sync(): a DDP itself, or the handle of aggregate_gradients().


def backward(model: nn.Module, rank: int) -> None:
    model(feed(rank)).backward()


def once(model: nn.Module, held: Any, rank: int) -> None:
    backward(model, rank)


def accumulated(model: nn.Module, held: Any, rank: int) -> None:
    backward(model, rank)
    backward(model, rank)


def unsynced_then_synced(model: nn.Module, held: Any, rank: int) -> None:
    with held.no_sync():
        backward(model, rank)
    backward(model, rank)


def synced_unsynced_synced(model: nn.Module, held: Any, rank: int) -> None:
    backward(model, rank)
    unsynced_then_synced(model, held, rank)


def zeroed_in_place(model: nn.Module, held: Any, rank: int) -> None:
    backward(model, rank)
    model.zero_grad(set_to_none=False)
    backward(model, rank)


def dropped_between(model: nn.Module, held: Any, rank: int) -> None:
    accumulated(model, held, rank)
    model.zero_grad()
    accumulated(model, held, rank)


def after_evaluation(model: nn.Module, held: Any, rank: int) -> None:
    with torch.no_grad():
        model(feed(rank))
    backward(model, rank)


SCHEDULES = {
    once: 1,
    accumulated: 2,
    unsynced_then_synced: 2,
    synced_unsynced_synced: 3,
    zeroed_in_place: 1,
}
