"""The same claims on each device that there is."""

from __future__ import annotations

import pytest
import torch

from tests.device.marks import CUDA


@pytest.fixture(params=["cpu", CUDA])
def device(request):
    return torch.device(request.param)
