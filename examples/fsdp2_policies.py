"""Shard a model with FSDP2, sum some gradients and average others, and resume from a checkpoint.

Run it with ``torchrun --standalone --nproc-per-node 2 examples/fsdp2_policies.py``.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import torchcreator as tc

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def build() -> nn.Sequential:
    """Return the model with its policies declared, and nothing sharded yet."""
    torch.manual_seed(0)
    # What the ranks say about normalisation gains is added up; the rest is averaged, as by FSDP2.
    gains, rest = tc.creators.aggregate("sum", module=nn.RMSNorm), tc.creators.aggregate("mean")
    with torch.device(DEVICE), tc.creator_scope(gains, rest):
        blocks = [nn.Sequential(nn.Linear(8, 8), nn.RMSNorm(8), nn.Tanh()) for _ in range(3)]
        return nn.Sequential(*blocks, nn.Linear(8, 1))


def build_sharded() -> nn.Sequential:
    """Return the model in the hands of FSDP2, a group per layer, with its policies in force."""
    model = build()
    for layer in model:
        fully_shard(layer)
    fully_shard(model)
    tc.distributed.aggregate_gradients(model)
    return model


def accumulate(model: nn.Module, step: int, rank: int) -> None:
    """Add up the gradients of two backwards over what one rank is fed in one step."""
    data = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1000 * step + rank))
    for micro_batch in data.to(DEVICE):
        model(micro_batch).square().mean().backward()


def check_gradients() -> str:
    """Compare with one process that does every rank's work and applies the policies by hand."""
    sharded, reference = build_sharded(), build()
    accumulate(sharded, 0, dist.get_rank())
    for rank in range(dist.get_world_size()):
        accumulate(reference, 0, rank)
    pairs = zip(sharded.parameters(), tc.named_specs(reference), strict=True)
    for mine, (name, whole, spec) in pairs:
        assert isinstance(mine.grad, DTensor)
        assert whole.grad is not None
        ranks = dist.get_world_size() if spec.aggregation.name == "MEAN" else 1
        torch.testing.assert_close(mine.grad.full_tensor(), whole.grad / ranks, msg=name)
    return "equal to one process's"


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Do some steps of accumulated gradients."""
    for step in steps:
        accumulate(model, step, dist.get_rank())
        optimizer.step()
        optimizer.zero_grad()


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return what a checkpoint holds, in shards."""
    of_model, of_optimizer = get_state_dict(model, optimizer)
    return {"model": of_model, "optim": of_optimizer}


def check_checkpoint(folder: str) -> str:
    """Compare a run that goes on with one that starts anew from its checkpoint."""
    first, second = build_sharded(), build_sharded()
    adam = torch.optim.AdamW(first.parameters(), lr=0.01)
    train(first, adam, range(3))
    save(state_of(first, adam), checkpoint_id=folder)
    train(first, adam, range(3, 5))
    adam = torch.optim.AdamW(second.parameters(), lr=0.01)
    found = state_of(second, adam)
    load(found, checkpoint_id=folder)
    set_state_dict(second, adam, model_state_dict=found["model"], optim_state_dict=found["optim"])
    train(second, adam, range(3, 5))
    for went_on, resumed in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(resumed, went_on, rtol=0, atol=0)
    return "resumed, equal in every bit"


def main() -> None:
    """Run both checks on each rank, and tell about them on the first."""
    if DEVICE == "cuda":
        torch.cuda.set_device(dist.get_node_local_rank())
    dist.init_process_group("nccl" if DEVICE == "cuda" else "gloo")
    with tempfile.TemporaryDirectory() as folder:
        shared = [folder]
        dist.broadcast_object_list(shared)
        lines = [f"gradients: {check_gradients()}", f"checkpoint: {check_checkpoint(shared[0])}"]
        dist.barrier()
    if dist.get_rank() == 0:
        print(*lines, sep="\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
