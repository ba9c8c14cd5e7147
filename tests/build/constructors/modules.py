"""What whole modules do: parametrize, tie, convert, load, apply, and stand in larger models."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from tests.build.constructors.register import constructor, of
from tests.support import torchscript


@of("parametrizations")
def parametrized():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    parametrizations.weight_norm(net[0])
    parametrizations.spectral_norm(net[1])
    parametrizations.orthogonal(net[2])

    class Double(nn.Module):
        def forward(self, w):
            return w * 2

    parametrize.register_parametrization(net[3], "weight", Double())
    return net


@of("legacy weight_norm and spectral_norm")
def legacy():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3))
    with_norm = nn.utils.spectral_norm(net[1])
    net[0] = nn.utils.parametrizations.weight_norm(net[0], dim=1)
    return nn.Sequential(net, with_norm)


@of("recurrent")
def recurrent():
    return nn.ModuleDict({"lstm": nn.LSTM(3, 4, 2, bidirectional=True), "gru": nn.GRU(3, 2)})


@of("lazy")
def lazy():
    return nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d(), nn.Linear(3, 3))


@of("lazy, materialised inside")
def materialised():
    net = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    net(torch.randn(5, 4))
    return net


@constructor
def a_forward_inside(self):
    self.norm = nn.BatchNorm2d(3)
    self.conv = nn.Conv2d(3, 3, 3)
    self.norm(self.conv(torch.randn(2, 3, 5, 5)))
    with torch.no_grad():
        self.out = nn.Linear(self.conv(torch.zeros(1, 3, 5, 5)).flatten(1).shape[1], 2)


@constructor
def ties(self):
    self.embed = nn.Embedding(5, 3, padding_idx=1)
    self.head = nn.Linear(3, 5, bias=False)
    self.head.weight = self.embed.weight
    self.twin = self.head
    self.register_parameter("none", None)


@constructor
def one_storage(self):
    flat = torch.randn(12)
    self.a = nn.Parameter(flat[:6].view(2, 3))
    self.b = nn.Parameter(flat[6:])
    self.register_buffer("flat", flat)
    self.register_buffer("scratch", torch.zeros(3), persistent=False)


@constructor
def tied_by_data(self):
    self.a = nn.Parameter(torch.randn(3))
    self.b = nn.Parameter(torch.zeros(3))
    self.b.data = self.a.data


@constructor
def buffers(self):
    self.register_buffer("mask", torch.tril(torch.ones(4, 4)).bool())
    self.register_buffer("rotary", 1.0 / 10000 ** (torch.arange(0, 8, 2).float() / 8))
    position = torch.arange(5).unsqueeze(1)
    table = torch.zeros(5, 4)
    table[:, 0::2] = torch.sin(position * torch.exp(torch.arange(0, 4, 2) * -math.log(100) / 4))
    table[:, 1::2] = torch.cos(position * torch.exp(torch.arange(0, 4, 2) * -math.log(100) / 4))
    self.register_buffer("table", table)
    self.register_buffer("expanded", torch.arange(3).expand(2, -1))
    self.register_buffer("strided", torch.randn(4, 6).t()[::2])


@of("inference mode")
def inference():
    with torch.inference_mode():
        return nn.Linear(2, 2)


@of("converted")
def converted():
    return nn.Linear(3, 2).double().to("cpu").float().to(torch.bfloat16)


@of("loaded with assign")
def loaded():
    net, other = nn.Linear(2, 2), nn.Linear(2, 2)
    net.load_state_dict(other.state_dict(), assign=True)
    return net


@of("loaded")
def loaded_in_place():
    net = nn.Linear(2, 2)
    net.load_state_dict({"weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "bias": torch.ones(2)})
    return net


@of("initialised by apply")
def applied():
    def init(module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    return nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)).apply(init)


@of("transformer")
def transformer():
    return nn.Transformer(8, 2, 2, 2, 16, batch_first=True)


@of("scripted")
def scripted():
    return nn.Sequential(torchscript.script(nn.Linear(2, 3)), nn.Linear(3, 2))


@of("nn.functional inside")
def functional():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            w = torch.randn(4, 4)
            self.a = nn.Parameter(F.normalize(w, dim=0))
            self.b = nn.Parameter(F.interpolate(w[None, None], scale_factor=2)[0, 0])
            self.c = nn.Parameter(w.norm(dim=1))
            self.d = nn.Parameter(torch.einsum("ij,kj->ik", w, w))
            self.register_buffer("e", F.one_hot(torch.arange(3), 4))
            self.f = nn.Parameter(torch.cat([w, w.cumsum(0)]).softmax(-1))
            self.register_buffer("g", torch.hann_window(5))
            self.h = nn.Parameter(torch.cdist(w, w))
            self.i = nn.Parameter(2**w)
            x, y = torch.meshgrid(torch.arange(3), torch.arange(2), indexing="ij")
            self.register_buffer("j", torch.stack([x, y]).flatten(1))
            self.register_buffer("k", torch.tril_indices(3, 3))
            self.register_buffer("l", torch.triu(torch.full((3, 3), float("-inf")), 1))

    return Functional()


@of("timm style")
def vision_transformer():
    class DropPath(nn.Module):
        def __init__(self, rate):
            super().__init__()
            self.rate = rate

    class Block(nn.Module):
        def __init__(self, dim, rate):
            super().__init__()
            self.norm = nn.LayerNorm(dim, eps=1e-6)
            self.qkv = nn.Linear(dim, dim * 3)
            self.proj = nn.Linear(dim, dim)
            self.scale = nn.Parameter(1e-5 * torch.ones(dim))
            self.drop_path = DropPath(rate) if rate > 0 else nn.Identity()

    class VisionTransformer(nn.Module):
        def __init__(self, dim=8, depth=3):
            super().__init__()
            self.patch = nn.Conv2d(3, dim, 4, 4)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
            self.pos_embed = nn.Parameter(torch.randn(1, 17, dim) * 0.02)
            rates = [x.item() for x in torch.linspace(0, 0.1, depth)]
            self.blocks = nn.Sequential(*(Block(dim, rate) for rate in rates))
            self.head = nn.Linear(dim, 10)
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
            nn.init.normal_(self.cls_token, std=1e-6)
            for name, module in self.named_modules():
                if isinstance(module, nn.Linear):
                    bias = -math.log(10) if name == "head" else 0.0
                    nn.init.trunc_normal_(module.weight, std=0.02)
                    nn.init.constant_(module.bias, bias)
                elif isinstance(module, nn.Conv2d):
                    flat = module.weight.view(module.weight.shape[0], -1)
                    nn.init.xavier_uniform_(flat)
            with torch.no_grad():
                for layer, block in enumerate(self.blocks, 1):
                    block.proj.weight.div_(math.sqrt(2.0 * layer))

    return VisionTransformer()


@of("Lightning style")
def lightning():
    class Metric(nn.Module):
        def __init__(self):
            super().__init__()
            self._defaults = {}
            for name, default in {"total": torch.tensor(0), "value": torch.zeros(3)}.items():
                self._defaults[name] = default.detach().clone()
                self.register_buffer(name, default, persistent=False)

    class Task(nn.Module):
        def __init__(self, **options):
            super().__init__()
            self.hparams = dict(options)
            self.net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
            self.teacher = copy.deepcopy(self.net).requires_grad_(False).eval()
            self.loss = nn.CrossEntropyLoss(weight=torch.tensor([0.3, 0.7]))
            self.metrics = nn.ModuleDict({"fitting": Metric(), "checking": Metric()})
            self.example_input_array = torch.randn(2, 4)
            self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=options["lr"])
            self.averaged = torch.optim.swa_utils.AveragedModel(self.net)

    return Task(lr=0.1)
