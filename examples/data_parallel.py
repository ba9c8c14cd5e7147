"""Train on several ranks, with a gradient policy for each parameter.

Run it with ``torchrun --standalone --nproc-per-node 2 examples/data_parallel.py``.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

import torchcreator as tc
from torchcreator.distributed import data_parallel


def main() -> None:
    """Do one step on each rank and show what each gradient became."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    # The gains' gradients are added up, and every rank has a bias of its own.
    with tc.creator_scope(
        tc.creators.aggregate("sum", module=nn.RMSNorm), tc.creators.local(name="bias")
    ):
        model = nn.Sequential(nn.RMSNorm(2), nn.Linear(2, 1))
    for parameter in model.parameters():
        nn.init.ones_(parameter)

    replicas = data_parallel(model)
    replicas(torch.ones(1, 2) * (rank + 1)).sum().mul(rank + 1).backward()
    for name, parameter, spec in tc.named_specs(model):
        policy = f"{spec.synchronization.name.lower()}, {spec.aggregation.name.lower()}"
        gradient = [] if parameter.grad is None else parameter.grad.flatten().tolist()
        print(f"rank {rank}: {name:9} {policy:12} {gradient}\n", end="", flush=True)
    del replicas  # before its process group: gloo's threads may wait for it otherwise
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
