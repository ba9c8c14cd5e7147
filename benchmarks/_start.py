"""What one rank of many takes to start a sharded model, by phase, beside FSDP2's own start."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import torchcreator as tc

MIB = 1 << 20
M_MMAP_THRESHOLD = -3  # glibc's name; it otherwise grows with what is freed
RANK = 17
Phases = dict[str, float]


class Embedded(nn.Module):
    """528 MiB: an embedding and a matrix."""

    def __init__(self, rows: int = 1 << 20, width: int = 2048) -> None:
        super().__init__()
        self.embed = nn.Embedding(rows, 128)
        self.linear = nn.Linear(width, width)


class Row(NamedTuple):
    """One way to start, as one of so many ranks.

    Attributes:
        title: What it is called.
        ranks: How many ranks there are.
        start: Returns the seconds of processor time of each phase, and the model.
        needs: How many MiB of memory have to be free.
    """

    title: str
    ranks: int
    start: Callable[[], tuple[Phases, nn.Module]]
    needs: int = 0


def phases(*steps: tuple[str, Callable[[Any], Any]]) -> tuple[Phases, Any]:
    """Run steps, each on what the one before returned; return the processor time of each."""
    taken: Phases = {}
    made: Any = None
    for name, step in steps:
        before = time.process_time()
        made = step(made)
        taken[name] = time.process_time() - before
    return taken, made


def sharded(model: nn.Module, *, columns: int | None = None, replicas: int = 1) -> nn.Module:
    """Shard each layer and what is left, by rows; what has ``columns`` dimensions by columns."""
    options: dict[str, Any] = {}
    if columns:
        options["shard_placement_fn"] = lambda p: Shard(1) if p.dim() == columns else Shard(0)
    if replicas > 1:
        shape = replicas, dist.get_world_size() // replicas
        options["mesh"] = init_device_mesh("cpu", shape, mesh_dim_names=("replicate", "shard"))
    layers: Any = getattr(getattr(model, "model", None), "layers", [])
    for layer in layers:
        fully_shard(layer, **options)
    fully_shard(model, **options)
    return model


def whole(make: Callable[[], nn.Module]) -> tuple[Phases, nn.Module]:
    """Construct all of a model, as one process does."""
    return phases(("draw", lambda _: make()))


def ours(
    make: Callable[[], nn.Module], seed: int | None, **options: Any
) -> tuple[Phases, nn.Module]:
    """Defer, shard, materialize."""
    torch.manual_seed(0)
    return phases(
        ("record", lambda _: tc.defer(make, seed=seed)),
        ("shard", partial(sharded, **options)),
        ("draw", tc.materialize),
    )


def ours_from(make: Callable[[], nn.Module], file: str, **options: Any) -> tuple[Phases, nn.Module]:
    """Defer, shard, and take this rank's part out of a checkpoint."""

    def read(model: nn.Module) -> nn.Module:
        with tc.creator_scope(tc.creators.from_checkpoint(file)):
            return tc.materialize(model)

    return phases(
        ("record", lambda _: tc.defer(make, seed=0)),
        ("shard", partial(sharded, **options)),
        ("read", read),
    )


def fsdp2(make: Callable[[], nn.Module], **options: Any) -> tuple[Phases, nn.Module]:
    """FSDP2's own start: on meta, sharded, emptied, and initialised by each rank for itself.

    With one seed on all ranks their shards are equal; with a seed for each, values depend on the
    number of ranks.
    """

    def on_meta(_: object) -> nn.Module:
        with torch.device("meta"):
            return make()

    def draw(model: nn.Module) -> nn.Module:
        model.to_empty(device="cpu")
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                assert isinstance(parameter, DTensor)
                parameter.to_local().normal_(0, 0.02)
        return model

    return phases(("record", on_meta), ("shard", partial(sharded, **options)), ("draw", draw))


def deepseek() -> nn.Module:
    """Return DeepSeek-V3 in bfloat16: 671 billion parameters."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        return DeepseekV3ForCausalLM(DeepseekV3Config())
    finally:
        torch.set_default_dtype(before)


def rows(file: str, *, quick: bool) -> list[Row]:
    """Return what is measured."""
    make = partial(Embedded, 1 << 14, 256) if quick else Embedded
    found = [
        Row("constructed whole", 64, partial(whole, make)),
        Row("`materialize`, seeded", 64, partial(ours, make, 0)),
        Row("`materialize`, exact", 64, partial(ours, make, None)),
        Row("`materialize`, from a checkpoint", 64, partial(ours_from, make, file)),
        Row(
            "`materialize`, from a checkpoint, columns",
            64,
            partial(ours_from, make, file, columns=2),
        ),
        Row("FSDP2's own: `to_empty`, each shard filled for itself", 64, partial(fsdp2, make)),
    ]
    if quick:
        return found
    deep = partial(ours, deepseek, 0, columns=3)
    name = "DeepSeek-V3, `materialize`, seeded"
    own = partial(fsdp2, deepseek, columns=3)
    return [
        *found,
        Row(name, 1024, deep, 3 << 10),
        Row("DeepSeek-V3, FSDP2's own", 1024, own, 3 << 10),
        Row(f"{name}, 4 replicas of 1,024 shards", 4096, partial(deep, replicas=4), 3 << 10),
        Row(name, 64, deep, 24 << 10),
    ]


def in_status(word: str, file: str = "/proc/self/status") -> float:
    """Return a number of MiB that Linux tells about this process, or the machine."""
    lines = Path(file).read_text().splitlines()
    return int(next(line for line in lines if line.startswith(word)).split()[1]) / 1024


def measure(row: Row, answer: Connection) -> None:
    """Send the phases, the peak above what was there before, and the bytes of the shards."""
    getattr(ctypes.CDLL(None), "mallopt", max)(M_MMAP_THRESHOLD, MIB)  # freed is then given back
    dist.init_process_group("fake", store=FakeStore(), rank=RANK, world_size=row.ranks)
    ours(partial(Embedded, 1 << 12, 64), 0)  # what the first call imports and starts
    if "DeepSeek" in row.title:
        import transformers.models.deepseek_v3.modeling_deepseek_v3  # noqa: F401 - takes a while
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = in_status("VmRSS")
    taken, model = row.start()
    peak = in_status("VmHWM") - before
    parts = (p.to_local() if isinstance(p, DTensor) else p for p in model.parameters())
    answer.send((taken, peak, sum(part.nbytes for part in parts) / MIB))
    answer.close()
    os._exit(0)


def measured(row: Row) -> tuple[Phases, float, float] | None:
    """Measure a row in a process of its own; None where it ended without an answer."""
    receive, send = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=measure, args=(row, send))
    process.start()
    send.close()
    try:
        found: tuple[Phases, float, float] = receive.recv()
    except EOFError:
        return None
    finally:
        process.join()
    return found


def report(*, quick: bool) -> None:
    """Measure each row and print the table."""
    heads = f"rank {RANK}", "of", "record", "shard", "draw or read", "peak", "its shards"
    print(f"| {' | '.join(heads)} |\n| --- |{' ---: |' * 6}")
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "model.safetensors")
        save(Embedded(1 << 14, 256) if quick else Embedded(), file)
        for row in rows(file, quick=quick):
            title = f"| {row.title} | {row.ranks:,}"
            free = in_status("MemAvailable", "/proc/meminfo")
            found = measured(row) if free >= row.needs else None
            if found is None:
                print(f"{title} | left out: it needs {row.needs >> 10} GiB, or failed | | | | |")
                continue
            taken, peak, shards = found
            times = [taken.get("record"), taken.get("shard"), taken.get("draw", taken.get("read"))]
            shown = " | ".join("" if t is None else f"{t:.3f} s" for t in times)
            print(f"{title} | {shown} | {peak:,.0f} MiB | {shards:,.1f} MiB |", flush=True)


def save(model: nn.Module, file: str) -> None:
    """Write a model's values into a file of safetensors."""
    from safetensors.torch import save_file

    save_file(model.state_dict(), file)
