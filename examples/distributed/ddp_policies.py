"""Train with a policy per variable on several ranks, and go on after a rank was killed.

    torchrun --nproc-per-node 2 examples/distributed/ddp_policies.py --folder /tmp/run

Each epoch ends with a checkpoint of all ranks. When a rank dies, torchrun (with --max-restarts 3,
say) starts all anew, and they go on from the last one; so does the same command given again.
`--kill-at-epoch 2` lets rank 1 die once, to see that.
"""

from __future__ import annotations

import argparse
import os
import signal
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict_loader import load as load_checkpoint
from torch.distributed.checkpoint.state_dict_saver import save as save_checkpoint

import torchcreator as tc
import torchcreator.distributed as tcd


class Model(nn.Module):
    """A linear map with a summed gain, an expert per rank, and a counter of samples."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)
        self.gain = tc.variable([1.0], aggregation="sum")
        self.expert = tc.variable([float(dist.get_rank())], synchronization="none")
        self.seen = tc.variable(0, synchronization="on_read", aggregation="sum")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return predictions of shape (batch, 1)."""
        tc.assign_add(self.seen, len(x))
        predicted: torch.Tensor = self.linear(x) * self.gain + self.expert
        return predicted


def main() -> None:
    """Join the group, train, and leave it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--kill-at-epoch", type=int)
    options = parser.parse_args()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    # A rank that waits for a dead one must give up soon, so that torchrun can start them anew.
    dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(seconds=30))
    train(options, device)
    # The DDP is gone by now. One that outlives its group takes the group down with it, and gloo's
    # threads and Python's lock may then wait for each other for ever.
    dist.barrier()
    dist.destroy_process_group()


def train(options: argparse.Namespace, device: torch.device) -> None:
    """Train for some epochs, from the last checkpoint if there is one."""
    torch.manual_seed(dist.get_rank())
    model = tcd.data_parallel(Model().to(device))
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.01)
    for epoch in range(restore(model, options.folder), options.epochs):
        for step in range(10):
            generator = torch.Generator().manual_seed(1000 * epoch + 10 * step + dist.get_rank())
            x = torch.randn(8, 4, generator=generator).to(device)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            if epoch == options.kill_at_epoch and step == 5:
                die_once(options.folder)
            optimizer.step()
        save(model, options.folder, epoch + 1)
    tcd.verify(model)
    seen = tc.read_value(model.module.seen).item()
    if dist.get_rank() == 0:
        print(f"gain {model.module.gain.item():.6f}, {seen} samples seen")


def save(model: nn.Module, folder: Path, epoch: int) -> None:
    """Write one checkpoint of all ranks, complete before its name appears."""
    save_checkpoint(tcd.state_dict(model), checkpoint_id=folder / f"epoch{epoch}.part")
    if dist.get_rank() == 0:
        (folder / f"epoch{epoch}.part").rename(folder / f"epoch{epoch}")
    dist.barrier()


def restore(model: nn.Module, folder: Path) -> int:
    """Load the last complete checkpoint; return the epoch to go on with."""
    done = [int(path.name[5:]) for path in folder.glob("epoch*") if path.suffix != ".part"]
    if not done:
        return 0
    state = tcd.state_dict(model)
    load_checkpoint(state, checkpoint_id=folder / f"epoch{max(done)}")
    tcd.load_state_dict(model, state)
    return max(done)


def die_once(folder: Path) -> None:
    """Kill rank 1, unless that was done before."""
    if dist.get_rank() == 1 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
