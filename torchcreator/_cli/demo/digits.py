"""The data: scans of handwritten digits that scikit-learn ships, one part held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor

HELD_OUT = 360
BATCH = 32
BRIGHTEST = 16.0
"""The scans' pixels run from 0 to 16."""


@dataclass(frozen=True)
class Scans:
    """Images of shape ``(n, 64)`` from 0 to 1, and the digits they show, of shape ``(n,)``."""

    images: Tensor
    digits: Tensor

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: Tensor | slice) -> Scans:
        return Scans(self.images[index], self.digits[index])

    def to(self, device: torch.device) -> Scans:
        """Return these scans on ``device``."""
        return Scans(self.images.to(device), self.digits.to(device))


def load(seed: int) -> tuple[Scans, Scans]:
    """Return the scans to learn from and those held out, split at random by ``seed``."""
    images, digits = load_digits(return_X_y=True)
    scans = Scans(
        torch.tensor(images, dtype=torch.float32) / BRIGHTEST,
        torch.tensor(digits, dtype=torch.int64),
    )
    order = torch.randperm(len(scans), generator=torch.Generator().manual_seed(seed))
    return scans[order[HELD_OUT:]], scans[order[:HELD_OUT]]


def batches(scans: Scans, *, seed: int, epoch: int, rank: int, world_size: int) -> Iterator[Scans]:
    """Yield one rank's share of an epoch in batches.

    All ranks draw the same order from the seed and the epoch and take every ``world_size``-th
    scan of it, so that no scan is fed twice and all have equally many batches; the few that
    cannot be dealt evenly sit this epoch out.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(scans), generator=generator).to(scans.digits.device)
    share = order[rank : len(order) - len(order) % world_size : world_size]
    for part in share.split(BATCH):
        yield scans[part]
