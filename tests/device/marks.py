"""What needs a GPU, and what runs anywhere."""

from __future__ import annotations

import pytest
import torch

NEEDS_CUDA = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
"""The marks of a test that has nothing to do on a CPU."""
CUDA = pytest.param("cuda", marks=NEEDS_CUDA)
