"""Train with a policy per variable on several ranks, and go on after a rank was killed.

Run it with ``torchrun --standalone --nproc-per-node 2 examples/ddp_policies.py``.

With ``--folder PATH`` each epoch ends with a checkpoint, and torchrun with ``--max-restarts 3``, or
the same command given again, goes on from the last. ``--kill-at-epoch 2`` lets rank 1 die once.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]
from torch.distributed.checkpoint.state_dict_loader import load as load_checkpoint
from torch.distributed.checkpoint.state_dict_saver import save as save_checkpoint

import torchcreator as tc


class Model(nn.Module):
    """A linear map with a summed gain, an expert per rank, and a counter of samples."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)
        self.gain = tc.variable([1.0], aggregation="sum")
        self.expert = tc.variable([0.0], synchronization="none")
        self.seen = tc.variable(0, synchronization="on_read", aggregation="sum")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return predictions of shape (batch, 1)."""
        tc.assign_add(self.seen, len(x))
        predicted: torch.Tensor = self.linear(x) * self.gain + self.expert
        return predicted


def main() -> None:
    """Join the group, train, and leave it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--kill-at-epoch", type=int)
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    join("nccl" if cuda else "gloo")
    train(parser.parse_args(), "cuda" if cuda else "cpu")
    # The DDP is gone by now. With one that outlives its group, gloo's threads may hang for ever.
    dist.barrier()
    dist.destroy_process_group()


def join(backend: str) -> None:
    """Form the process group of this attempt."""
    store, rank, world_size = next(rendezvous("env://"))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # The ranks of all attempts share torchrun's store: without keys of its own, a rank that
        # was started anew finds the addresses of the dead there, and calls them in vain.
        store = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)


def train(options: argparse.Namespace, device: str) -> None:
    """Train for three epochs, from the last checkpoint if there is one."""
    torch.manual_seed(0)
    model = tc.distributed.data_parallel(Model().to(device))
    # Plain SGD keeps nothing between steps: the model is all that a checkpoint has to hold.
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.01)
    start = restore(model, options.folder) if options.folder else 0
    for epoch in range(start, 3):
        torch.manual_seed(100 * epoch + dist.get_rank())  # the same data when it is done again
        for step in range(10):
            x = torch.randn(8, 4, device=device)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            if epoch == options.kill_at_epoch and step == 5:
                die_once(options.folder / f"died at {epoch}")
            optimizer.step()
        if options.folder:
            save(model, options.folder, epoch + 1)
    tc.distributed.verify(model)
    seen = tc.read_value(model.module.seen).item()
    if dist.get_rank() == 0:
        print(f"gain {model.module.gain.item():.3f}, {seen} samples seen")


def save(model: nn.Module, folder: Path, epoch: int) -> None:
    """Write one checkpoint of all ranks, complete before its name appears."""
    part = folder / f"epoch{epoch}.part"
    save_checkpoint(tc.distributed.state_dict(model), checkpoint_id=part)
    if dist.get_rank() == 0:
        part.rename(part.with_suffix(""))


def restore(model: nn.Module, folder: Path) -> int:
    """Load the last complete checkpoint; return the epoch to go on with."""
    done = max((int(path.name[5:]) for path in folder.glob("epoch*[0-9]")), default=0)
    if done:
        state = tc.distributed.state_dict(model)
        load_checkpoint(state, checkpoint_id=folder / f"epoch{done}")
        tc.distributed.load_state_dict(model, state)
    return done


def die_once(marker: Path) -> None:
    """Kill rank 1, unless that was done before."""
    if dist.get_rank() == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
