"""What constructors read off a tensor: its device, its type, and the text it makes."""

from __future__ import annotations

import torch
from torch import nn

from tests.build.constructors.register import constructor


@constructor
def types(self):
    self.w = nn.Parameter(torch.rand(3))
    assert self.w.type() == torch.rand(3).type() == "torch.FloatTensor"
    self.register_buffer("a", torch.tensor([1, 2]).type_as(self.w))
    self.register_buffer("b", torch.arange(3).type(self.w.type()))
    self.register_buffer("c", torch.rand(3).type("torch.DoubleTensor"))
    self.register_buffer("d", torch.rand(3).type(torch.HalfTensor))
    self.register_buffer("e", torch.rand(3).type(torch.float64))
    self.register_buffer("f", torch.rand(3).type_as(torch.tensor([1])))
    self.register_buffer("g", torch.tensor([1, 2]).to(self.w))
    self.register_buffer("h", torch.rand(2).to(torch.tensor([1.0], dtype=torch.float64)))
    alike = self.w.data.type_as(torch.ones(1))
    alike.add_(1)  # it is the same memory, as nothing had to be converted


@constructor
def texts(self):
    number, row = torch.rand(()), nn.Parameter(torch.rand(2))
    texts = f"{number:.3f}", f"{row}", str(row), repr(row), f"{row.data!r}"
    assert not any("meta" in text for text in texts)
    self.register_buffer("codes", torch.tensor([ord(letter) for letter in "".join(texts)]))


@constructor
def places(self):
    made, real = torch.rand(2), torch.tensor([1.0])
    assert made.is_cpu
    assert made.device == real.device == nn.Parameter(made).device
    assert not made.is_shared()
    assert made.__dlpack_device__() == real.__dlpack_device__()
    self.register_buffer("a", torch.quantile(torch.rand(10), 0.3))
    self.register_buffer("b", torch.rand(10).quantile(torch.tensor([0.3, 0.5])))
    self.register_buffer("c", torch.nanquantile(torch.rand(10), 0.3))
    self.register_buffer("d", torch.zeros_like(real, device=made.device))
    self.register_buffer("e", real.new_zeros(2, device=made.device))


@constructor
def sobol(self):
    for number, engine in enumerate(
        [
            torch.quasirandom.SobolEngine(3),
            torch.quasirandom.SobolEngine(3, scramble=True),
            torch.quasirandom.SobolEngine(2, scramble=True, seed=3),
        ]
    ):
        self.register_buffer(f"points{number}", engine.draw(5))
    self.after = nn.Parameter(torch.rand(2))


@constructor
def news(self):
    w = torch.rand(2, dtype=torch.float64)
    self.a = nn.Parameter(w.new_empty_strided((2, 2), (1, 2)).fill_(2))
    self.b = nn.Parameter(w.new(torch.Size([2])).fill_(0))
    self.c = nn.Parameter(torch.tensor([1.0]).new_zeros(2))
    self.d = nn.Parameter(torch.FloatTensor(2).uniform_())
    self.e = nn.Parameter(w.new(w))
    self.f = nn.Parameter(torch.Tensor([w[0], 1.0]))


@constructor
def layouts(self):
    rows = torch.rand(4, 6)
    for number, part in enumerate(torch.linalg.svd(rows, full_matrices=False)):
        self.register_buffer(f"svd{number}", part)
        self.register_parameter(f"rest{number}", nn.Parameter(part[1:].contiguous()))
    self.register_buffer("spectrum", torch.fft.rfft2(torch.rand(4, 4, 6), dim=(0, 1)))
    self.register_buffer("vectors", torch.linalg.eig(rows @ rows.T)[1])
