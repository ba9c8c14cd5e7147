"""Route tokens between ranks to experts that each rank trains alone, behind a gate they share.

Run it with ``torchrun --standalone --nproc-per-node 2 examples/moe_local_experts.py``.

Experts have a value per rank (``synchronization="none"``): tokens travel to them, their gradients
do not travel. The gate is one value on all ranks, and its gradient is averaged.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import torchcreator as tc

WIDTH, TOKENS = 8, 32
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def expert(number: int) -> nn.Sequential:
    """Return one expert, other than all others."""
    torch.manual_seed(100 + number)
    return nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))


class _Exchange(torch.autograd.Function):
    """Send rows to each rank and return those that the ranks sent; the backward sends them back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, sent: list[int], received: list[int]) -> torch.Tensor:
        ctx.sent, ctx.received = sent, received
        out = x.new_empty(sum(received), x.shape[1])
        dist.all_to_all_single(out, x.contiguous(), received, sent)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return exchange(grad, ctx.received, ctx.sent), None, None


exchange: Callable[..., torch.Tensor] = _Exchange.apply


def choose(gate: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the expert that each token goes to, and the weight of its answer."""
    weight, chosen = gate(x).softmax(-1).max(-1)
    return chosen, weight.unsqueeze(-1)


class MixtureOfExperts(nn.Module):
    """An expert on each rank: the gate's first choice answers."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, dist.get_world_size())
        with tc.creator_scope(tc.creators.local()):  # synchronization="none"
            self.expert = expert(dist.get_rank())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return an answer to each token, of shape (tokens, WIDTH)."""
        chosen, weight = choose(self.gate, x)
        order = chosen.argsort(stable=True)
        sent = chosen.bincount(minlength=dist.get_world_size())
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent)
        visitors = exchange(x[order], sent.tolist(), received.tolist())
        back = exchange(self.expert(visitors), received.tolist(), sent.tolist())
        return torch.empty_like(back).index_copy(0, order, back) * weight


def tokens(rank: int) -> torch.Tensor:
    """Return what one rank is fed."""
    return torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(rank)).to(DEVICE)


def one_process(gate: nn.Linear) -> list[nn.Sequential]:
    """Let one process do what all ranks do together, and return its experts."""
    ranks = range(dist.get_world_size())
    experts = [expert(rank).to(DEVICE) for rank in ranks]
    for rank in ranks:
        x = tokens(rank)
        chosen, weight = choose(gate, x)
        answers = torch.stack([each(x) for each in experts], 1)[torch.arange(TOKENS), chosen]
        (answers * weight).square().sum().backward()
    return experts


def compare(mine: nn.Module, whole: nn.Module, divisor: int) -> None:
    """Make sure that gradients are one process's, divided by a number."""
    for p, q in zip(mine.parameters(), whole.parameters(), strict=True):
        assert q.grad is not None
        torch.testing.assert_close(p.grad, q.grad / divisor)


def main() -> None:
    """Do one backward on all ranks, and compare it with one process's."""
    if DEVICE == "cuda":
        torch.cuda.set_device(dist.get_node_local_rank())
    dist.init_process_group("nccl" if DEVICE == "cuda" else "gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    model = MixtureOfExperts().to(DEVICE)
    tc.distributed.aggregate_gradients(model)
    gate = copy.deepcopy(model.gate)
    model(tokens(rank)).square().sum().backward()
    # An expert has the gradients of all tokens that came to it, from whichever rank ...
    compare(model.expert, one_process(gate)[rank], 1)
    compare(model.gate, gate, size)  # ... and the gate the mean over ranks.
    print(f"rank {rank}: expert and gate have one process's gradients\n", end="", flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
