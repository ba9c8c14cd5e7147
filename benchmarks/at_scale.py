"""What one rank of many takes to start, and how much memory policies take beside the parameters.

    python -m benchmarks.at_scale                   # both, 100,000 parameters: ten minutes
    python -m benchmarks.at_scale --only policies 1000000      # half an hour or so, up to 8 GB
    python -m benchmarks.at_scale --only start --quick         # a model of 8 MiB, seconds
    python -m benchmarks.at_scale --only start --rows seeded   # rows whose "title, ranks" has this

Each row is measured in a process of its own, as one rank of torch's fake process group. Of a start,
on one thread, as torchrun starts a rank, the processor time of each phase, the fastest of four, all
of it by what constructing the whole model takes, in turns in the same process; and by how much
resident memory rises at most. Nothing is imported in the timed part. Of policies, as one of 1,024
ranks, resident memory after, less before, divided by the number of parameters.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore

from benchmarks import _start
from torchcreator import variable
from torchcreator.distributed import aggregate_gradients, data_parallel

RANKS = 1024
Make = Callable[[int], nn.Module]
Attach = Callable[[nn.Module], object]


def undeclared(count: int) -> nn.Module:
    """Return a module of plain parameters."""
    module = nn.Module()
    for i in range(count):
        module.register_parameter(f"p{i}", nn.Parameter(torch.ones(1)))
    return module


def declared(aggregation: str) -> Make:
    """Return what makes a module of variables with a policy."""

    def make(count: int) -> nn.Module:
        module = nn.Module()
        for i in range(count):
            made = variable([1.0], name=f"p{i}", aggregation=aggregation)
            module.register_parameter(f"p{i}", made)
        return module

    return make


ROWS: dict[str, tuple[Make, Attach | None]] = {
    "the parameters themselves": (undeclared, None),
    "the same, declared": (declared("mean"), None),
    "plain DDP, beside them": (undeclared, DistributedDataParallel),
    "data_parallel, all MEAN": (declared("mean"), data_parallel),
    "data_parallel, all SUM": (declared("sum"), data_parallel),
    "aggregate_gradients on a plain module, all MEAN": (declared("mean"), aggregate_gradients),
    "aggregate_gradients on a plain module, all SUM": (declared("sum"), aggregate_gradients),
}
"""What is made, and what is attached to it; only the last of them is measured."""


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def measure(name: str, count: int, answer: Connection) -> None:
    """Send how many bytes a parameter takes, in a process that then ends."""
    make, attach = ROWS[name]
    dist.init_process_group("fake", store=FakeStore(), rank=5, world_size=RANKS)
    first = make(1)  # what the first call imports and caches is no cost of a parameter
    if attach is None:
        before = resident()
        kept: object = make(count)
    else:
        attach(first)
        module = make(count)
        before = resident()
        kept = attach(module)
    answer.send((resident() - before) / count)
    answer.close()
    del kept
    os._exit(0)  # without the minutes that freeing a million objects one by one may take


def main() -> None:
    """Measure what the command line names, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.at_scale", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=100_000, help="parameters")
    parser.add_argument("--only", choices=["start", "policies"])
    parser.add_argument("--quick", action="store_true", help="start a small model only")
    parser.add_argument("--rows", default="", help="start what has this in its title")
    asked = parser.parse_args()
    if asked.only != "policies":
        _start.report(quick=asked.quick, chosen=asked.rows)
        print()
    if asked.only != "start":
        policies(asked.count)


def policies(count: int) -> None:
    """Measure each row and print the table."""
    fork = multiprocessing.get_context("fork")
    print(f"| {count:,} parameters of one element, {RANKS:,} ranks | bytes each | in all |")
    print("| --- | ---: | ---: |")
    for name in ROWS:
        receive, send = fork.Pipe(duplex=False)
        process = fork.Process(target=measure, args=(name, count, send))
        process.start()
        send.close()
        each = receive.recv()
        process.join()
        print(f"| {name} | {each:,.0f} | {each * count / 1e9:.2f} GB |", flush=True)


if __name__ == "__main__":
    main()
