"""Constructors that load their own weights, and others that give tensors memory from elsewhere."""

from __future__ import annotations

import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.build.constructors.register import constructor, of

_FOLDER = tempfile.TemporaryDirectory()
_PATH = Path(_FOLDER.name)


with torch.random.fork_rng():
    _layer = nn.Linear(3, 2)
    _state = _layer.state_dict()
torch.save(_state, _PATH / "m.pt")
torch.save(_state, _PATH / "old.pt", _use_new_zipfile_serialization=False)
torch.save(_layer, _PATH / "whole.pt")
torch.save([_layer.weight, _layer.weight.detach()[1]], _PATH / "views.pt")
np.savez(_PATH / "m.npz", **{name: tensor.numpy() for name, tensor in _state.items()})
with suppress(ImportError):
    from safetensors import safe_open
    from safetensors.torch import load, load_file, save_file

    save_file(_state, _PATH / "m.safetensors")


@constructor
def torch_files(self):
    self.layers = nn.ModuleList(nn.Linear(3, 2) for _ in range(5))
    self.layers[0].load_state_dict(torch.load(_PATH / "m.pt"))
    self.layers[1].load_state_dict(torch.load(_PATH / "m.pt"), assign=True)
    self.layers[2].load_state_dict(torch.load(_PATH / "old.pt", map_location="cpu"))
    self.layers[3].load_state_dict(torch.load(_PATH / "m.pt", mmap=True))
    self.layers[4].load_state_dict(
        torch.hub.load_state_dict_from_url((_PATH / "m.pt").as_uri(), _PATH)
    )
    self.whole = torch.load(_PATH / "whole.pt", weights_only=False)
    nn.init.normal_(self.layers[1].bias)


@constructor
def views_in_a_file(self):
    whole, part = torch.load(_PATH / "views.pt")
    self.whole = nn.Parameter(whole)
    self.register_buffer("part", part)
    with torch.no_grad():
        part.fill_(3.0)


@constructor
def arrays_in_files(self):
    with np.load(_PATH / "m.npz") as arrays:
        self.layer = nn.Linear(3, 2)
        self.layer.weight.data = torch.from_numpy(arrays["weight"])
        self.layer.bias.data.copy_(torch.as_tensor(arrays["bias"]))
        self.register_buffer("again", torch.tensor(arrays["bias"]))


if (_PATH / "m.safetensors").exists():

    @of("safetensors")
    def safetensors_files():
        path = _PATH / "m.safetensors"
        layers = nn.Sequential(*(nn.Linear(3, 2) for _ in range(3)))
        layers[0].load_state_dict(load_file(path))
        layers[1].load_state_dict(load(path.read_bytes()))
        with safe_open(path, "pt") as opened, torch.no_grad():
            layers[2].weight.copy_(opened.get_tensor("weight"))
            layers[2].bias.copy_(opened.get_slice("bias")[:])
        return layers


@constructor
def memory_of_real_tensors(self):
    self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    values = [torch.tensor([[1.0, 2.0], [3.0, 4.0]]) for _ in range(4)]
    self.layers[0].weight.data = values[0]
    self.layers[1].weight.data.set_(values[1])
    with torch.no_grad():
        self.layers[2].weight.set_(values[2].t())
    values[3].data = self.layers[0].bias.data
    for number, value in enumerate(values):
        self.register_buffer(f"value{number}", value)
    with torch.no_grad():
        self.layers[0].weight.add_(1)
        values[3].mul_(2)
    held = torch.UntypedStorage(8)
    self.register_buffer("held", torch.empty(0).set_(held, 0, (2,), (1,)).fill_(5.0))


@constructor
def memory_of_real_tensors_with_gradients(self):
    self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
    for layer in (self.first, self.second):
        layer(torch.ones(1, 2)).sum().backward()
    self.first.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


@of("orthogonal, as it is")
def orthogonal():
    wide, tall = nn.Linear(6, 4), nn.Linear(4, 6)
    for layer in (wide, tall):
        nn.utils.parametrizations.orthogonal(layer, use_trivialization=False)
    return nn.Sequential(wide, tall)


@of("quantised dynamically")
def quantised():
    net = nn.Sequential(nn.Linear(4, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is to go, some day
        return torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
