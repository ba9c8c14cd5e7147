"""What constructors do with tensors: views, copies, metadata, devices, and values Python sees."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from tests.build.constructors.register import constructor


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
def moved_in_another_layout(self):
    images = torch.randn(2, 3, 4, 5)
    self.w = nn.Parameter(images.cpu(memory_format=torch.channels_last))
    self.v = nn.Parameter(images.to("cpu", memory_format=torch.channels_last))
    assert self.w.stride() == self.v.stride() == (60, 1, 15, 3)


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
