"""A model whose constructor draws in every way that is hard to skip, to cut and to reorder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Torture(nn.Module):
    """Odd sizes, serial normals, dead draws, counts that depend on the numbers, and looks."""

    def __init__(self):
        super().__init__()
        self.plain = nn.Linear(301, 203)
        self.twice = nn.Linear(256, 130)
        nn.init.normal_(self.twice.weight, std=0.02)
        nn.init.normal_(self.twice.bias[:7])  # serial, odd
        self.serial = nn.Parameter(torch.randn(15))
        self.transposed = nn.Parameter(torch.empty(37, 53).t().normal_())
        self.channels = nn.Conv2d(5, 7, 3).to(memory_format=torch.channels_last)
        nn.init.normal_(self.channels.weight)
        self.wide = nn.Parameter(torch.randn(41, 11, dtype=torch.float64))
        self.narrow = nn.Linear(99, 31, dtype=torch.bfloat16)
        nn.init.normal_(self.narrow.weight)
        self.seen = nn.Parameter(torch.empty(64, 3))
        for _ in range(1 + int(torch.randint(0, 5, ()).item())):
            nn.init.trunc_normal_(self.seen, std=0.5, a=-0.6, b=0.6)  # rejects
        self.cut_off = nn.Parameter(nn.init.trunc_normal_(torch.empty(400, 33), std=0.02))
        self.orthogonal = nn.Parameter(nn.init.orthogonal_(torch.empty(40, 30)))
        self.register_buffer("order", torch.randperm(77))
        self.register_buffer("chosen", torch.multinomial(torch.rand(9), 4))
        self.register_buffer("rates", torch.poisson(torch.full((6,), 3.0)))
        self.register_buffer("waiting", torch.empty(33).exponential_())
        self.register_buffer("kept", F.dropout(torch.ones(50), 0.3))
        self.register_buffer("bits", torch.empty(19, dtype=torch.int64).random_())
        self.recurrent = nn.LSTM(13, 17, num_layers=2, bidirectional=True)
        own = torch.Generator().manual_seed(3)
        self.own = nn.Parameter(torch.randn(67, generator=own))
        self.own_again = nn.Parameter(torch.empty(3, 5).normal_(generator=own))
        self.sparse = nn.Parameter(nn.init.sparse_(torch.empty(12, 9), 0.3))
        self.mixed = nn.Parameter(torch.randn(20, 20) @ torch.rand(20, 20))
        self.xavier = nn.Parameter(nn.init.xavier_uniform_(torch.empty(300, 101)))
        self.kaiming = nn.Parameter(nn.init.kaiming_normal_(torch.empty(300, 101)))
        self.embed = nn.Embedding(5000, 33)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.last = nn.Linear(5, 3)


STARTS = {
    "fresh": lambda: torch.manual_seed(0),
    "used": lambda: (torch.manual_seed(1), torch.rand(100)),
    "block used up": lambda: (torch.manual_seed(2), torch.rand(624)),
    "a normal value waits": lambda: (torch.manual_seed(3), torch.randn(5)),
    "the last output of a block": lambda: (torch.manual_seed(4), torch.rand(623)),
}
"""What brings the default generator into each kind of state."""
