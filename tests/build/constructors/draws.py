"""What constructors draw, with which generator, and how they initialise."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tests.build.constructors.register import constructor


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
