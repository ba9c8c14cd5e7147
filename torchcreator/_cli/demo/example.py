"""Handwritten digits, learned by several processes: what `torchcreator demo` trains.

Stock modules that know nothing of this library, made under a few scopes, and a plain loop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.data import TensorDataset
from typing_extensions import Unpack

import torchcreator as tc
from torchcreator.creators import aggregate, declare, freeze, local

PIXELS, LIFTED, HIDDEN, DIGITS = 64, 128, 64, 10
BRIGHTEST = 16.0
"""The scans' pixels run from 0 to 16."""
HELD_OUT = 360


def bound_matrices(
    next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]
) -> nn.Parameter:
    """Keep the rows of every matrix from growing longer than 1."""
    if len(kwargs["shape"] or ()) == 2:
        kwargs["constraint"] = tc.constraints.MaxNorm(1.0)
    return next_creator(**kwargs)


def classifier() -> nn.Sequential:
    """Return a classifier of digits with its policies, and a count of scans."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with tc.creator_scope(freeze()):
        layers["lift"] = nn.Linear(PIXELS, LIFTED)
    layers["relu"] = nn.ReLU()
    with tc.creator_scope(bound_matrices):
        layers["hidden"] = nn.Linear(LIFTED, HIDDEN)
        with tc.creator_scope(aggregate("sum")):
            layers["gain"] = nn.RMSNorm(HIDDEN)
        with tc.creator_scope(aggregate("only_first_replica")):
            layers["slope"] = nn.PReLU()
        with tc.creator_scope(local()):  # every rank has an expert of its own
            layers["expert"] = nn.Linear(HIDDEN, HIDDEN)
        layers["gelu"] = nn.GELU()
        layers["head"] = nn.Linear(HIDDEN, DIGITS)
    model = nn.Sequential(layers)
    # Each rank keeps a count to itself; it reads as the sum over the ranks.
    summed = declare(synchronization="on_read", aggregation="sum")
    with tc.creator_scope(summed):
        model.scans_seen = tc.variable(0, dtype=torch.int64, name="scans_seen")
    return model


def scans(seed: int) -> tuple[TensorDataset, TensorDataset]:
    """Return the scans to learn from and those held out, split at random by ``seed``.

    Images have the shape (64,), from 0 to 1; beside each is the digit that it shows.
    """
    images, digits = load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32) / BRIGHTEST
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))
    shuffled = pixels[order], torch.tensor(digits, dtype=torch.int64)[order]
    learn = TensorDataset(*(tensor[HELD_OUT:] for tensor in shuffled))
    return learn, TensorDataset(*(tensor[:HELD_OUT] for tensor in shuffled))


def train(
    replicas: DistributedDataParallel, optimizer: Optimizer, epoch: Iterable[list[Tensor]]
) -> tuple[float, int]:
    """Train on one rank's share of an epoch; return its mean loss and how many scans it had."""
    scans_seen = replicas.module.get_parameter("scans_seen")
    total, fed = 0.0, 0
    for images, digits in epoch:
        optimizer.zero_grad()
        loss = F.cross_entropy(replicas(images), digits)
        loss.backward()
        optimizer.step()  # the constraints are applied here
        tc.assign_add(scans_seen, len(digits))
        total += loss.item() * len(digits)
        fed += len(digits)
    return total / fed, fed


def accuracy(model: nn.Module, held_out: TensorDataset) -> float:
    """Return the share of the scans that the model reads right."""
    images, digits = held_out.tensors
    with torch.no_grad():
        right = model(images).argmax(1) == digits
    return float(right.float().mean())
