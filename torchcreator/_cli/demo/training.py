"""What each rank does: a plain training loop, and an honest look at what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

import torchcreator as tc
from torchcreator._cli.demo import findings
from torchcreator._cli.demo.digits import Scans, batches
from torchcreator._cli.demo.messages import Gradient, Progress, Report, Variables
from torchcreator._cli.demo.model import classifier
from torchcreator._cli.demo.options import Options
from torchcreator._cli.demo.ranks import Place
from torchcreator.distributed import data_parallel

LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class Training:
    """The work of a rank, ready to be sent to its process."""

    options: Options
    learn: Scans
    held_out: Scans

    def __call__(self, place: Place) -> None:
        """Train, telling how it goes, and report."""
        torch.set_num_threads(1)  # the model is too small to gain from more
        # Every rank draws its own initial values; data_parallel then sends rank 0's to all,
        # except those of the variables that are declared to be the rank's own.
        torch.manual_seed(self.options.seed + place.rank)
        device = self._device(place)
        learn, held_out = self.learn.to(device), self.held_out.to(device)
        model = classifier().to(device)
        if place.rank == 0:
            place.tell(Variables(findings.rows(model)))
        replicas = data_parallel(model)
        at_first = findings.frozen(model)
        gradients = compare_gradients(replicas, next(self._epoch(learn, place, 0)))

        fed = 0
        optimizer = torch.optim.Adam(replicas.parameters(), lr=LEARNING_RATE)
        for epoch in range(self.options.epochs):
            loss, scans = train(replicas, optimizer, self._epoch(learn, place, epoch))
            fed += scans
            place.tell(Progress(epoch, loss, accuracy(model, held_out)))

        place.tell(
            Report(
                replicated=findings.replicated(model),
                per_rank=findings.per_rank(model),
                frozen={n: at_first[n] == now for n, now in findings.frozen(model).items()},
                overshoot=findings.overshoot(model),
                longest_rows=findings.longest_rows(model),
                gradients=gradients,
                counted=int(tc.read_value(model.get_parameter("scans_seen"))),
                fed=fed,
                accuracy=accuracy(model, held_out),
            )
        )

    def _device(self, place: Place) -> torch.device:
        if self.options.device == "cpu":
            return torch.device("cpu")
        return torch.device("cuda", place.rank % torch.cuda.device_count())

    def _epoch(self, learn: Scans, place: Place, epoch: int) -> Iterator[Scans]:
        seed = self.options.seed
        return batches(learn, seed=seed, epoch=epoch, rank=place.rank, world_size=place.world_size)


def train(
    replicas: DistributedDataParallel, optimizer: Optimizer, epoch: Iterator[Scans]
) -> tuple[float, int]:
    """Train on one rank's share of an epoch; return its mean loss and how many scans it had."""
    scans_seen = replicas.module.get_parameter("scans_seen")
    total, fed = 0.0, 0
    for scans in epoch:
        optimizer.zero_grad()
        loss = F.cross_entropy(replicas(scans.images), scans.digits)
        loss.backward()
        optimizer.step()  # the constraints are applied here
        tc.assign_add(scans_seen, len(scans))
        total += loss.item() * len(scans)
        fed += len(scans)
    return total / fed, fed


def accuracy(model: nn.Module, scans: Scans) -> float:
    """Return the share of the scans that the model reads right."""
    with torch.no_grad():
        right = model(scans.images).argmax(1) == scans.digits
    return float(right.float().mean())


def compare_gradients(replicas: DistributedDataParallel, scans: Scans) -> dict[str, Gradient]:
    """Return each trained variable's gradient as this rank alone has it, and as it is reduced."""
    model = replicas.module
    trained = {n: (p, spec) for n, p, spec in tc.named_specs(model) if p.requires_grad}
    loss = F.cross_entropy(model(scans.images), scans.digits)
    own = torch.autograd.grad(loss, [p for p, _ in trained.values()])
    F.cross_entropy(replicas(scans.images), scans.digits).backward()
    return {
        name: Gradient(spec.aggregation.name.lower(), numbers(alone), numbers(p.grad))
        for (name, (p, spec)), alone in zip(trained.items(), own, strict=True)
    }


def numbers(tensor: Tensor | None) -> list[float]:
    """Return a tensor's elements; none of a gradient that is not there."""
    flat: list[float] = [] if tensor is None else tensor.flatten().tolist()
    return flat
