"""Constructors that do what a recorder may get wrong; each is built and compared with itself."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize

CONSTRUCTORS: dict[str, Callable[[], nn.Module]] = {}


def constructor(make: Callable[[Any], None]) -> Callable[[Any], None]:
    """Register a module whose constructor is ``make``."""

    class Constructed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            make(self)

    CONSTRUCTORS[make.__name__] = Constructed
    return make


def of(name: str) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    def register(factory: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        CONSTRUCTORS[name] = factory
        return factory

    return register


@constructor
def views_and_slices(self):
    self.w = nn.Parameter(torch.empty(6, 4))
    with torch.no_grad():
        self.w[:2].normal_()
        self.w[2:].zero_()
        self.w[2:, ::2] = 3
        self.w.t()[1].uniform_()
        self.w.view(-1)[5:9].mul_(2)
        self.w[:, 0] += 1
        torch.narrow(self.w, 0, 1, 2).add_(self.w[3:5])


@constructor
def out_arguments(self):
    a, b = torch.randn(3, 3), torch.empty(3, 3)
    torch.mul(a, a, out=b)
    torch.normal(torch.zeros(3, 3), torch.ones(3, 3), out=a)
    self.a, self.b = nn.Parameter(a), nn.Parameter(b)


@constructor
def foreach(self):
    tensors = [torch.randn(3), torch.ones(2), torch.rand(4)]
    torch._foreach_mul_(tensors, 2.0)
    torch._foreach_add_(tensors, torch._foreach_exp(tensors))
    self.ps = nn.ParameterList(tensors)


@constructor
def copied_prototypes(self):
    layer = nn.Linear(3, 3)
    self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(3))
    norm = nn.BatchNorm1d(3)
    norm.running_mean.normal_()
    self.norms = nn.ModuleList([norm, copy.deepcopy(norm)])
    self.w = nn.Parameter(layer.weight.clone())


@constructor
def shared_buffers_copied_together(self):
    block = nn.Module()
    whole = torch.randn(4, 2)
    block.register_buffer("whole", whole)
    block.register_buffer("part", whole[1:3])
    self.block = copy.deepcopy(block)


@constructor
def data_and_no_grad(self):
    self.w = nn.Parameter(torch.empty(3, 2))
    self.w.data.normal_(1, 2)
    self.w.data = self.w.data * 2
    self.v = nn.Parameter(torch.zeros(2))
    self.v.data = torch.randn(5)
    self.v.data[1:3].fill_(7)
    with torch.no_grad():
        self.w.add_(1).clamp_(min=0)
    self.u = nn.Parameter(torch.randn(3))
    self.u.detach().mul_(3)


@constructor
def data_from_real_tensors(self):
    self.w = nn.Parameter(torch.empty(2))
    self.w.data = torch.tensor([1.0, 2.0])
    self.v = nn.Parameter(torch.tensor([1.0, 2.0]))
    self.v.data = torch.randn(2)


@constructor
def metadata_changed_afterwards(self):
    a = torch.randn(2, 3)
    b = a * 2
    a.t_()
    c = torch.arange(4.0)
    c.resize_(2, 2)
    d = torch.randn(1, 3)
    d.squeeze_(0)
    e = torch.randn(3)
    e.unsqueeze_(1)
    for name, value in {"a": a, "b": b, "c": c, "d": d, "e": e}.items():
        self.register_buffer(name, value)


@constructor
def explicit_devices(self):
    self.w = nn.Parameter(torch.empty(2, device="cpu").normal_())
    self.v = nn.Parameter(torch.zeros(2, device=self.w.device))
    self.u = nn.Parameter(torch.randn(3, device=torch.device("cpu", 0)).to("cpu"))
    alias = self.w.cpu()
    with torch.no_grad():
        alias.add_(1)
        self.v.to(self.w).add_(2)
        self.v.to("cpu", torch.float32).add_(3)
        self.v.to(device="cpu").mul_(3)
        self.v.to(torch.float64).add_(99)
    self.h = nn.Parameter(self.v.to("cpu", torch.float16))
    assert self.w.device == torch.device("cpu")
    assert self.w.is_cpu
    assert not self.w.is_meta
    assert not self.w.is_cuda
    assert self.w.get_device() == -1


@constructor
def honest_meta(self):
    self.w = nn.Parameter(torch.empty(3, device="meta"))
    with torch.device("meta"):
        self.layer = nn.Linear(2, 2)
    assert self.w.is_meta
    assert self.layer.weight.device.type == "meta"
    self.other = nn.Linear(2, 2)
    self.v = nn.Parameter(torch.randn(2).to("meta"))


@constructor
def meta_then_to_empty(self):
    self.layer = nn.Linear(3, 2, device="meta").to_empty(device="cpu")
    self.layer.reset_parameters()
    self.skipped = nn.utils.skip_init(nn.Linear, 3, 3)
    nn.init.normal_(self.skipped.weight)
    nn.init.zeros_(self.skipped.bias)


@constructor
def explicit_generators(self):
    g = torch.Generator().manual_seed(3)
    self.a = nn.Parameter(torch.randn(20, generator=g))
    self.b = nn.Parameter(torch.empty(3, 3))
    nn.init.trunc_normal_(self.b, generator=g)
    nn.init.xavier_uniform_(self.b, generator=g)
    self.c = nn.Parameter(torch.empty(5).uniform_(generator=g))
    self.register_buffer("d", torch.randperm(6, generator=g))
    self.e = nn.Parameter(torch.rand(3, generator=torch.default_generator))
    self.f = nn.Parameter(torch.bernoulli(torch.full((4,), 0.5), generator=g))
    assert g.initial_seed() == 3
    self.state = g.get_state()
    self.h = nn.Parameter(torch.empty(6, 5))
    nn.init.sparse_(self.h, 0.3, generator=g)
    self.i = nn.Parameter(torch.randn(3))
    self.g = nn.Parameter(torch.tensor(np.random.RandomState(0).rand(2)))


@constructor
def new_and_like(self):
    w = torch.randn(2, 3, dtype=torch.float64)
    self.a = nn.Parameter(w.new_zeros(3))
    self.b = nn.Parameter(torch.randn_like(w))
    self.c = nn.Parameter(torch.ones_like(w, dtype=torch.float32))
    self.d = nn.Parameter(w.new_tensor([1.0, 2.0]))
    self.e = nn.Parameter(w.new(3).fill_(2))
    self.f = nn.Parameter(w.new_full((2,), 3.0))
    self.g = nn.Parameter(w.new([1.0, 3.0]))
    self.h = nn.Parameter(torch.empty_like(w.t()).copy_(w.t()))
    self.i = nn.Parameter(torch.rand_like(torch.tensor([1.0, 2.0])))
    self.j = nn.Parameter(w.new_empty(2, 2).normal_())


@constructor
def data_of_many_kinds(self):
    self.a = nn.Parameter(torch.tensor([1.0, 2.0]))
    self.b = nn.Parameter(torch.from_numpy(np.arange(3.0)))
    self.register_buffer("c", torch.tensor([[1, 2], [3, 4]]))
    self.d = nn.Parameter(torch.as_tensor(np.ones(2, np.float32)) * torch.randn(2))
    self.e = nn.Parameter(torch.empty(3).copy_(torch.from_numpy(np.arange(3.0))))
    self.f = nn.Parameter(torch.tensor(torch.randn(2).tolist()))
    self.g = nn.Parameter(torch.stack([torch.randn(2), torch.tensor([1.0, 2.0])]))
    array = np.zeros(2, np.float32)
    self.h = nn.Parameter(torch.randn(2) + torch.from_numpy(array))
    array[:] = 5
    self.i = nn.Parameter(torch.tensor([torch.ones(()), torch.zeros(())]))


@constructor
def dtype_contexts(self):
    torch.set_default_dtype(torch.float64)
    try:
        self.a = nn.Linear(2, 2)
        self.register_buffer("b", torch.arange(3) / torch.tensor([1, 2, 3]))
        self.register_buffer("quotient", torch.arange(1, 4) / 3)
    finally:
        torch.set_default_dtype(torch.float32)
    self.c = nn.Linear(2, 2, dtype=torch.bfloat16)
    self.d = nn.Linear(2, 2).half()
    self.e = nn.Parameter(torch.randn(3, dtype=torch.complex64))
    self.register_buffer("f", torch.randn(3, dtype=torch.complex64).conj())
    self.register_buffer("g", torch.randn(2, dtype=torch.complex64).conj().imag)
    self.register_buffer("h", torch.randint(0, 9, (3,), dtype=torch.int8))


@constructor
def values_that_python_sees(self):
    rates = [rate.item() for rate in torch.linspace(0, 0.3, 4)]
    self.drops = nn.ModuleList(nn.Dropout(rate) for rate in rates)
    w = torch.randn(4)
    while w.abs().max() > 1:
        w.normal_()
    self.w = nn.Parameter(w)
    self.n = nn.Linear(int(torch.tensor([3]).sum()), len(torch.rand(2).tolist()))
    self.scale = float(torch.randn(()))
    self.array = torch.arange(3).numpy()
    self.v = nn.Parameter(torch.from_numpy(np.asarray(torch.randn(2)) * 2))
    if torch.randn(1) > 0:
        self.u = nn.Parameter(torch.randn(2))
    self.text = f"{torch.ones(2)}"
    self.equal = torch.equal(torch.ones(2), torch.ones(2))
    self.t = nn.Parameter(torch.randn(3))


@constructor
def results_of_unknown_shape(self):
    w = torch.randn(8)
    self.a = nn.Parameter(w[w > 0])
    self.register_buffer("b", torch.nonzero(w > 0))
    self.register_buffer("c", torch.unique(torch.randint(0, 3, (9,))))
    v = torch.randn(6)
    v[v > 0] = 0
    self.v = nn.Parameter(v)
    u = torch.randn(4)
    u[torch.tensor([0, 2])] = torch.randn(2)
    self.u = nn.Parameter(u.masked_fill(u < 0, 1.0))


@constructor
def seeds(self):
    self.a = nn.Parameter(torch.randn(3))
    torch.manual_seed(7)
    self.b = nn.Parameter(torch.randn(3))
    with torch.random.fork_rng():
        torch.manual_seed(9)
        self.c = nn.Parameter(torch.randn(20))
    self.d = nn.Parameter(torch.randn(3))
    state = torch.get_rng_state()
    self.e = nn.Parameter(torch.randn(3))
    torch.set_rng_state(state)
    self.f = nn.Parameter(torch.randn(3))


@constructor
def draws_on_real_tensors(self):
    self.a = nn.Parameter(torch.randn(3))
    self.b = nn.Parameter(torch.from_numpy(np.zeros(4)).normal_())
    self.c = nn.Parameter(torch.randn(3))
    self.d = nn.Parameter(F.dropout(torch.tensor([1.0, 2.0, 3.0]), 0.5))
    self.e = nn.Parameter(torch.randn(3))


@constructor
def draws_of_many_kinds(self):
    p = torch.full((6,), 0.4)
    self.register_buffer("a", torch.bernoulli(p))
    self.register_buffer("b", torch.multinomial(torch.rand(5), 3))
    self.register_buffer("c", torch.randperm(5))
    self.register_buffer("d", torch.empty(5).exponential_())
    self.register_buffer("e", torch.empty(5).cauchy_())
    self.register_buffer("f", torch.empty(5).geometric_(0.3))
    self.register_buffer("g", torch.empty(5, dtype=torch.int64).random_(3, 9))
    self.register_buffer("h", torch.normal(torch.zeros(4), 2.0))
    self.register_buffer("i", torch.poisson(torch.full((4,), 3.0)))
    self.register_buffer("j", F.dropout(torch.ones(8)))
    self.register_buffer("k", torch.empty(4).bernoulli_(torch.rand(4)))
    self.register_buffer("l", torch.randint(3, 9, (4,)))
    self.register_buffer("m", F.rrelu(torch.randn(4), training=True))
    self.register_buffer("n", torch.normal(1.0, 2.0, (3,)))


@constructor
def initialisers(self):
    for name, fill in {
        "trunc": lambda w: nn.init.trunc_normal_(w, std=0.02),
        "trunc_far": lambda w: nn.init.trunc_normal_(w, mean=3, a=-1, b=1),
        "orthogonal": lambda w: nn.init.orthogonal_(w, gain=2),
        "sparse": lambda w: nn.init.sparse_(w, sparsity=0.3),
        "eye": nn.init.eye_,
        "kaiming": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
        "xavier": nn.init.xavier_uniform_,
    }.items():
        self.register_parameter(name, nn.Parameter(torch.empty(6, 5)))
        fill(getattr(self, name))
    self.dirac = nn.Parameter(torch.empty(4, 4, 3))
    nn.init.dirac_(self.dirac)
    self.part = nn.Parameter(torch.zeros(6, 4))
    nn.init.trunc_normal_(self.part[2:])
    nn.init.orthogonal_(self.part[:2])
    q, r = torch.linalg.qr(torch.randn(5, 5))
    self.q = nn.Parameter(q * torch.sign(torch.diag(r)))
    u, s, _ = torch.linalg.svd(torch.randn(4, 3), full_matrices=False)
    self.usv = nn.Parameter(u * s)


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
    return nn.Sequential(torch.jit.script(nn.Linear(2, 3)), nn.Linear(3, 2))


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
