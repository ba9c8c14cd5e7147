"""The recorder needs nothing of creators: it records and replays a model by itself."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys

import torch
from torch import nn

from torchcreator._recorder.live_tensors import replace
from torchcreator._recorder.recording import record


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16)
        self.norm = nn.BatchNorm1d(3)
        self.tied = self.encoder.linear1.weight
        nn.init.trunc_normal_(self.encoder.linear2.weight, std=0.02)
        self.register_buffer("scale", torch.rand(3) / torch.arange(1, 4))
        self.loose = [torch.randn(2)]


def tensors(model):
    return {**model.state_dict(keep_vars=True), "loose": model.loose[0]}


def built(seed):
    model, recording, objects = record(Model, (), {}, device=None, seed=seed, find=True)
    assert model.loose[0].is_meta and all(p.is_meta for p in model.parameters())
    with torch.no_grad():
        for several in objects.values():
            memory = recording.contents(several[0][1].storage)
            for tensor, ref in several:
                replace(tensor, recording.view(ref, memory))
    recording.draws.finish()
    return model


torch.manual_seed(3)
plain, after = Model(), torch.get_rng_state()
torch.manual_seed(3)
exact = built(None)
assert torch.equal(torch.get_rng_state(), after)
assert tensors(exact).keys() == tensors(plain).keys()
for name, tensor in tensors(plain).items():
    found = tensors(exact)[name]
    assert type(found) is type(tensor), name
    assert torch.equal(found, tensor), name
assert exact.tied is exact.encoder.linear1.weight
first, second = built(0), built(0)
assert all(torch.equal(t, tensors(second)[name]) for name, t in tensors(first).items())
assert torch.equal(torch.get_rng_state(), after)
print(*sorted({name.split(".")[1] for name in sys.modules if name.startswith("torchcreator.")}))
"""


def test_it_builds_a_model_without_the_rest():
    """A model is bit-identical to plain construction, generator included, in a process that never
    loads the chain, the face or anything else that knows creators.
    """
    command = [sys.executable, "-c", SCRIPT]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["_call_site", "_errors", "_recorder", "_torch"]
