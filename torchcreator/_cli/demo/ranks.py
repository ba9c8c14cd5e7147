"""The demo's processes: they meet on loopback, train, and tell each other what they found."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessContext, start_processes
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import torchcreator as tc
from torchcreator._cli.demo.checks import Claim, Report, claims
from torchcreator._cli.demo.example import accuracy, classifier, scans, train
from torchcreator._cli.usage import on_interrupt
from torchcreator.distributed import data_parallel

LEARNING_RATE, BATCH = 3e-3, 32
PATIENCE = timedelta(seconds=60)
"""How long a rank waits for another before it gives up."""

Told: TypeAlias = "SimpleQueue[str | list[Claim]]"
"""What rank 0 says: a line after each epoch, and in the end whether each claim holds."""


@dataclass(frozen=True)
class Options:
    """The demo's arguments, read and checked."""

    world_size: int
    epochs: int
    device: str
    seed: int
    html: str | None


@contextmanager
def started(options: Options) -> Iterator[tuple[ProcessContext, Told]]:
    """Start the ranks; on the way out, however taken, none is left."""
    # A fork takes 0.1 s where spawning takes seconds; CUDA does not survive one.
    forks = sys.platform == "linux" and options.device == "cpu"
    method = "fork" if forks else "spawn"
    told: Told = multiprocessing.get_context(method).SimpleQueue()
    with TemporaryDirectory() as folder:
        arguments = (options, Path(folder, "ranks").as_uri(), told)
        with on_interrupt(signal.SIG_IGN), warnings.catch_warnings():
            # Python 3.12 warns of any fork beside threads, even idle ones.
            warnings.simplefilter("ignore", DeprecationWarning)
            ranks: Any = start_processes(
                be_rank,
                arguments,
                nprocs=options.world_size,
                join=False,
                daemon=True,
                start_method=method,
            )
        try:
            yield ranks, told
        finally:
            for process in ranks.processes:
                process.kill()
                process.join()


def be_rank(rank: int, options: Options, meeting: str, told: Told) -> None:
    """Be one rank: meet the others, train, and hold what all found against what was declared."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # and when the process that started it is gone
    # gloo neither asks for a network nor touches one.
    names = [name for _, name in socket.if_nameindex()]
    os.environ["GLOO_SOCKET_IFNAME"] = next((n for n in names if n.startswith("lo")), names[0])
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=options.world_size, timeout=PATIENCE
    )
    specs, report = learn(rank, options, told)
    reports: list[Any] = [None] * options.world_size
    dist.all_gather_object(reports, report)
    if rank == 0:
        told.put(list(claims(specs, reports)))
    gc.collect()  # a DDP that outlives its process group can deadlock gloo's threads
    dist.barrier()  # a rank that leaves early would break the connection of one still at work
    dist.destroy_process_group()


def learn(rank: int, options: Options, told: Told) -> tuple[dict[str, tc.VariableSpec], Report]:
    """Train, telling how it goes, and return what was declared and what came of it."""
    torch.set_num_threads(1)  # the model is too small to gain from more
    # Every rank draws its own initial values; data_parallel then sends rank 0's to all,
    # except those of the variables that are declared to be the rank's own.
    torch.manual_seed(options.seed + rank)
    device = torch.device(options.device)
    if device.type == "cuda":
        device = torch.device("cuda", rank % torch.cuda.device_count())
    shown, held_out = (
        TensorDataset(*(tensor.to(device) for tensor in part.tensors))
        for part in scans(options.seed)
    )
    model = classifier().to(device)
    replicas = data_parallel(model)
    sampler: DistributedSampler[Any] = DistributedSampler(shown, seed=options.seed, drop_last=True)
    batches = DataLoader(shown, BATCH, sampler=sampler)
    before, fed = values(model), 0
    own, reduced = gradients(replicas, next(iter(batches)))
    optimizer = torch.optim.Adam(replicas.parameters(), lr=LEARNING_RATE)
    for epoch in range(options.epochs):
        sampler.set_epoch(epoch)
        loss, count = train(replicas, optimizer, batches)
        fed += count
        if rank == 0:
            told.put(f"loss {loss:.3f}  accuracy {accuracy(model, held_out):.1%}")
    counted = int(tc.read_value(model.get_parameter("scans_seen")))
    found = accuracy(model, held_out)
    report = Report(before, values(model), own, reduced, counted, fed, found)
    return {name: spec for name, _, spec in tc.named_specs(model)}, report


def values(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of every parameter."""
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters()}


def gradients(replicas: DistributedDataParallel, batch: list[torch.Tensor]) -> tuple[Any, Any]:
    """Return each trained variable's gradient as this rank alone has it, and as it is reduced."""
    model, (images, digits) = replicas.module, batch
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    own = torch.autograd.grad(F.cross_entropy(model(images), digits), list(trained.values()))
    F.cross_entropy(replicas(images), digits).backward()
    reduced = {name: p.grad.cpu().clone() for name, p in trained.items() if p.grad is not None}
    return dict(zip(trained, (gradient.cpu() for gradient in own), strict=True)), reduced
