"""The creator chain: who is called, in which order, with what, and what remains afterwards."""

from __future__ import annotations

import torch

KEYWORDS = {
    "initial_value",
    "trainable",
    "validate_shape",
    "caching_device",
    "name",
    "dtype",
    "constraint",
    "synchronization",
    "aggregation",
    "shape",
    "device",
    "process_group",
    "tags",
    "module",
}


def ones(next_creator, **kwargs):
    return next_creator(**{**kwargs, "initial_value": torch.ones(kwargs["shape"])})
