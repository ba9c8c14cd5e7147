"""A device that is neither CPU nor CUDA, of which this library knows nothing but torch's word."""

from __future__ import annotations

import subprocess
import sys

RECORDED = '''
import types

import torch
from torch import nn

import torchcreator as tc
from torchcreator._recorder.rng import default_generator

torch.utils.rename_privateuse1_backend("ours")
ours = types.ModuleType("ours")
ours.default_generators = ()
ours.is_available = lambda: True
ours.device_count = lambda: 2


def current_device():
    """Answer 1; as with CUDA, there are no generators before the device is first used."""
    if not ours.default_generators:
        ours.default_generators = (torch.Generator(), torch.Generator())
    return 1


ours.current_device = current_device
torch._register_device_module("ours", ours)

assert default_generator(torch.device("ours:0")) is ours.default_generators[0]
assert default_generator(torch.device("ours")) is ours.default_generators[1]


class Placed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.LayerNorm(3, device="ours:0")
        self.second = nn.LayerNorm(3, device="ours")
        self.third = nn.Parameter(torch.ones_like(self.second.weight))
        w = self.first.weight
        self.said = w.device, w.is_cpu, w.is_cuda, w.is_meta, w.get_device()
        self.moved = self.second.weight.to("ours") is self.second.weight


model = tc.defer(Placed)
assert model.said == (torch.device("ours:0"), False, False, False, 0)
assert model.moved
places = {row.name: str(row.device) for row in tc.inspect(Placed)}
assert places == {
    "first.weight": "ours:0",
    "first.bias": "ours:0",
    "second.weight": "ours:1",
    "second.bias": "ours:1",
    "third": "ours:1",
}, places
with tc.creator_scope(tc.creators.on("cpu")):
    rows = tc.inspect(Placed)
assert {row.device.type for row in rows} == {"cpu"}
try:
    tc.variable([1.0], device="ours:1", name="gain")
except ValueError as error:  # torch has no kernels for it
    assert str(error).startswith("The device of variable 'gain' is 'ours:1'.")
else:
    raise AssertionError("it was made")


class SeedsAll(nn.Linear):
    def __init__(self):
        torch.manual_seed(7)
        super().__init__(2, 2)


def states():
    return [torch.get_rng_state(), *(g.get_state() for g in ours.default_generators)]


ours._is_in_bad_fork = lambda: False
ours.manual_seed_all = lambda seed: [g.manual_seed(seed) for g in ours.default_generators]
torch.manual_seed(3)
before = states()
for make in (tc.defer, lambda factory: tc.build(factory, seed=0)):
    make(SeedsAll)
    assert all(map(torch.equal, states(), before)), make
tc.build(SeedsAll)
built = states()
SeedsAll()
assert all(map(torch.equal, states(), built))
assert torch.equal(built[1], torch.Generator().manual_seed(7).get_state())
'''


def test_a_device_of_somebodys_own():
    """Recording and listing take indices, the current device and generators from its module."""
    subprocess.run([sys.executable, "-W", "error", "-c", RECORDED], check=True, timeout=150)


ON_GPUS = """
import torch
from torch import nn

import torchcreator as tc

# As much of a machine with two GPUs as recording asks of it.
torch.cuda._lazy_init = lambda: None
torch.cuda.is_available = lambda: True
torch.cuda.current_device = lambda: 0
torch.cuda.default_generators = torch.Generator(), torch.Generator()
torch.backends.cudnn.is_acceptable = lambda tensor: True

for make in (
    lambda: nn.LSTM(2, 3, device="cuda:1"),
    lambda: nn.GRU(2, 3).cuda(1),
    lambda: nn.RNN(2, 3).to("cuda:1"),
    lambda: nn.Linear(2, 3).cuda(1),
    lambda: nn.Linear(2, 3, device="cuda:0").cuda(device=1),
    lambda: nn.TransformerEncoderLayer(8, 2, 16, device="cuda:1"),
    lambda: nn.Embedding(5, 4, padding_idx=0).cuda(torch.device("cuda", 1)).half(),
):
    rows = tc.inspect(make, seed=0)
    assert {str(row.device) for row in rows} == {"cuda:1"}, rows
with torch.device("cuda:1"):
    assert tc.inspect(nn.LSTM, 2, 3, seed=0)["weight_hh_l0"].device.index == 1
"""


def test_constructors_that_ask_for_a_gpu():
    """What modules do on GPUs alone can be recorded: cuDNN's layout, moves to one by its index."""
    subprocess.run([sys.executable, "-c", ON_GPUS], check=True, timeout=150)
