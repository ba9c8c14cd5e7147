"""What variables declare about several ranks, carried out on ``torch.distributed``."""

from __future__ import annotations

from torchcreator.distributed._aggregate import aggregate_gradients
from torchcreator.distributed._data_parallel import data_parallel
from torchcreator.distributed._fsdp import per_rank_parameters
from torchcreator.distributed._handle import GradientAggregation
from torchcreator.distributed._verify import verify

__all__ = [
    "GradientAggregation",
    "aggregate_gradients",
    "data_parallel",
    "per_rank_parameters",
    "verify",
]
