"""Parts of values that are drawn on a device are parts of the whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.device.marks import NEEDS_CUDA
from torchcreator._recorder.recording import record

pytestmark = NEEDS_CUDA
DEVICE = "cuda"
LARGE = 2000, 1100  # more than a block, which on a device has 2**20 elements
VALUES = {
    "normal": lambda: torch.empty(LARGE).normal_(1, 2),
    "bfloat16": lambda: torch.empty(LARGE, dtype=torch.bfloat16).normal_(),
    "kaiming": lambda: nn.Linear(*LARGE).weight.data,
    "truncated": lambda: nn.init.trunc_normal_(torch.empty(LARGE), a=-1, b=1),
    "bernoulli": lambda: torch.empty(LARGE).bernoulli_(0.3),
    "transposed": lambda: torch.empty(LARGE).t().uniform_().t(),
    "joined and scaled": lambda: torch.cat([torch.randn(LARGE), torch.ones(LARGE)]) * 3,
    "mixed": lambda: nn.init.orthogonal_(torch.empty(200, 180)).mul_(2),
    "small": lambda: torch.randn(300, 20),
}


@pytest.mark.parametrize("seed", [None, 3], ids=["exact", "seeded"])
@pytest.mark.parametrize("name", VALUES)
def test_a_part_on_a_device(name, seed):
    """Rows, columns and both, made by themselves, are those of the whole, and on the device."""

    class Holds(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("value", VALUES[name]())

    torch.manual_seed(0)
    device = torch.device(DEVICE)
    recording = record(Holds, (), {}, device=device, seed=seed, find=False)[1]
    ref = recording.refs["value"]
    whole = recording.value(ref)
    rows, columns = whole.shape
    for region in [
        [[(rows // 3, rows // 2)], [(0, columns)]],
        [[(0, rows)], [(3, columns // 4)]],
        [[(1, 9), (rows - 5, rows)], [(2, 7)]],
    ]:
        part = recording.part(ref, region)
        taken = torch.cat([whole[low:high] for low, high in region[0]])
        ((low, high),) = region[1]
        assert part.device.type == whole.device.type == device.type
        assert torch.equal(part, taken[:, low:high])
