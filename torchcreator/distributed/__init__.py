"""What variables declare about several ranks, carried out on ``torch.distributed``."""

from __future__ import annotations

from torchcreator.distributed._aggregate import aggregate_gradients
from torchcreator.distributed._buffers import aggregate_buffer
from torchcreator.distributed._checkpoint import load, save
from torchcreator.distributed._clip import clip_grad_norm_
from torchcreator.distributed._data_parallel import data_parallel
from torchcreator.distributed._fsdp import per_rank_parameters
from torchcreator.distributed._handle import GradientAggregation
from torchcreator.distributed._prepare import prepare
from torchcreator.distributed._reads import synchronize, synchronized
from torchcreator.distributed._state import load_state_dict, state_dict
from torchcreator.distributed._verify import verify

__all__ = [
    "GradientAggregation",
    "aggregate_buffer",
    "aggregate_gradients",
    "clip_grad_norm_",
    "data_parallel",
    "load",
    "load_state_dict",
    "per_rank_parameters",
    "prepare",
    "save",
    "state_dict",
    "synchronize",
    "synchronized",
    "verify",
]
