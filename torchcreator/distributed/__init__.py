"""What variables declare about several ranks, carried out on ``torch.distributed``."""

from __future__ import annotations

from torchcreator.distributed._data_parallel import data_parallel
from torchcreator.distributed._verify import verify

__all__ = ["data_parallel", "verify"]
