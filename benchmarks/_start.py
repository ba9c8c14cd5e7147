"""What one rank of many takes to start a sharded model, by phase, beside FSDP2's own start."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

import torchcreator as tc
from benchmarks._start_models import Embedded, deepseek, llama
from benchmarks._start_others import dcp, fsdp2, transformers_own
from benchmarks._start_steps import Phases, phases, sharded

MIB = 1 << 20
M_MMAP_THRESHOLD = -3  # glibc's name; it otherwise grows with what is freed
RANK = 17
TURNS = 3
"""How often a start and the construction of all are timed, one after the other."""


class Row(NamedTuple):
    """One way to start, as one of so many ranks.

    Attributes:
        title: What it is called.
        ranks: How many ranks there are.
        start: Returns the seconds of processor time of each phase, and the model.
        needs: How many MiB of memory have to be free.
        twice: Whether to start once before: what is imported and read then is no cost of a start.
        whole: Constructs all of the model, in turns with this; None where that is not compared.
        reads: Whether it reads the files.
    """

    title: str
    ranks: int
    start: Callable[[], tuple[Phases, nn.Module]]
    needs: int = 0
    twice: bool = True
    whole: Callable[[], tuple[Phases, nn.Module]] | None = None
    reads: bool = False


class Found(NamedTuple):
    """What a row takes.

    Attributes:
        taken: The seconds of processor time of each phase.
        whole: Those of constructing all of the model, in the same process; None if not compared.
        peak: The MiB above what was there before.
        shards: The MiB that stay.
    """

    taken: Phases
    whole: float | None
    peak: float
    shards: float


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


def rows(file: str, *, quick: bool) -> list[Row]:
    """Return what is measured."""
    make = partial(Embedded, 1 << 14, 256) if quick else Embedded
    plain = partial(whole, make)
    reading = partial(ours_from, make, file)
    own = "FSDP2's own: `to_empty`, each shard filled for itself"
    found = [
        Row("constructed whole", 64, plain),
        Row("`materialize`, seeded", 64, partial(ours, make, 0), whole=plain),
        Row("`materialize`, seeded, columns", 64, partial(ours, make, 0, columns=2), whole=plain),
        Row("`materialize`, exact", 64, partial(ours, make, None), whole=plain),
        Row("`materialize`, from a checkpoint", 64, reading, whole=plain, reads=True),
        Row(
            "`materialize`, from a checkpoint, columns",
            64,
            partial(reading, columns=2),
            whole=plain,
            reads=True,
        ),
        Row(own, 64, partial(fsdp2, make), whole=plain),
    ]
    return found if quick else [*found, *llamas(str(Path(file).parent / "llama")), *deepseeks()]


def llamas(folder: str) -> list[Row]:
    """Return the rows of the Llama, whose values are in a folder, on few ranks."""
    plain = partial(whole, llama)
    ways: dict[str, tuple[Callable[[], tuple[Phases, nn.Module]], bool]] = {
        "`materialize`, seeded": (partial(ours, llama, 0), False),
        "`materialize`, exact": (partial(ours, llama, None), False),
        "FSDP2's own": (partial(fsdp2, llama), False),
        "from a checkpoint": (partial(ours_from, llama, folder), True),
        "`dcp.load`": (partial(dcp, llama, folder), True),
        "transformers' own": (partial(transformers_own, folder), True),
    }
    found = [Row("Llama, constructed whole", 1, plain, 3 << 10)]
    for name, (start, reads) in ways.items():
        found += [
            Row(f"Llama, {name}", ranks, start, 3 << 10, whole=plain, reads=reads)
            for ranks in (1, 2, 4)
        ]
    return found


def deepseeks() -> list[Row]:
    """Return the rows of DeepSeek-V3, on many ranks."""
    deep, own = partial(ours, deepseek, 0, columns=3), partial(fsdp2, deepseek, columns=3)
    name = "DeepSeek-V3, `materialize`, seeded"
    return [
        Row(name, 1024, deep, 3 << 10, twice=False),
        Row("DeepSeek-V3, FSDP2's own", 1024, own, 3 << 10, twice=False),
        Row(f"{name}, 4 replicas", 4096, partial(deep, replicas=4), 3 << 10, twice=False),
        Row(name, 64, deep, 24 << 10, twice=False),
    ]


def in_status(word: str, file: str = "/proc/self/status") -> float:
    """Return a number of MiB that Linux tells about this process, or the machine."""
    lines = Path(file).read_text().splitlines()
    return int(next(line for line in lines if line.startswith(word)).split()[1]) / 1024


def measure(row: Row, answer: Connection) -> None:
    """Send what was found."""
    getattr(ctypes.CDLL(None), "mallopt", max)(M_MMAP_THRESHOLD, MIB)  # freed is then given back
    torch.set_num_threads(1)  # as torchrun starts a rank
    rank = min(RANK, row.ranks - 1)
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=row.ranks)
    ours(partial(Embedded, 1 << 12, 64), 0)  # what the first call imports and starts
    if row.twice:
        row.start()
    else:
        import transformers.models.deepseek_v3.modeling_deepseek_v3  # noqa: F401 - takes a while
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = in_status("VmRSS")
    taken, model = row.start()
    peak = in_status("VmHWM") - before
    parts = (p.to_local() if isinstance(p, DTensor) else p for p in model.parameters())
    shards = sum(part.nbytes for part in parts) / MIB
    del model
    constructed: list[float] = []
    for _ in range(TURNS if row.whole else 0):
        assert row.whole is not None
        constructed.append(seconds(row.whole()[0]))
        gc.collect()  # else a start pays for what was made before
        taken = min(taken, row.start()[0], key=seconds)
        gc.collect()
    answer.send(Found(taken, min(constructed, default=None), peak, shards))
    answer.close()
    os._exit(0)


def seconds(taken: Phases) -> float:
    """Return how long all phases took."""
    return sum(taken.values())


def measured(row: Row) -> Found | None:
    """Measure a row in a process of its own; None where it ended without an answer."""
    receive, send = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=measure, args=(row, send))
    gc.collect()  # in the fork, what has threads of its own would wait for them, or crash
    process.start()
    send.close()
    try:
        found: Found = receive.recv()
    except EOFError:
        return None
    finally:
        process.join()
    return found


def report(*, quick: bool, chosen: str = "") -> None:
    """Measure each row whose title has a text, and print the table."""
    heads = [f"rank {RANK}, or the last", "of", "record", "shard", "draw or read"]
    heads += ["by constructing all", "peak", "its shards"]
    print(f"| {' | '.join(heads)} |\n| --- |{' ---: |' * (len(heads) - 1)}")
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "model.safetensors")
        wanted = [row for row in rows(file, quick=quick) if chosen in f"{row.title}, {row.ranks}"]
        if any(row.reads for row in wanted):
            fork = multiprocessing.get_context("fork")  # freed memory would be there for the rows
            writing = fork.Process(target=write, args=(folder, file), kwargs={"quick": quick})
            writing.start()
            writing.join()
        for row in wanted:
            title = f"| {row.title} | {row.ranks:,}"
            free = in_status("MemAvailable", "/proc/meminfo")
            found = measured(row) if free >= row.needs else None
            if found is None:
                print(f"{title} | left out: it needs {row.needs >> 10} GiB, or failed | | | | | |")
                continue
            taken = found.taken
            times = [taken.get("record"), taken.get("shard"), taken.get("draw", taken.get("read"))]
            shown = [*("" if t is None else f"{t:.3f} s" for t in times)]
            shown.append(f"{seconds(taken) / found.whole:.3f}" if found.whole else "")
            shown += f"{found.peak:,.0f} MiB", f"{found.shards:,.1f} MiB"
            print(f"{title} | {' | '.join(shown)} |", flush=True)


def write(folder: str, file: str, *, quick: bool) -> None:
    """Write what the rows read."""
    save(Embedded(1 << 14, 256) if quick else Embedded(), file)
    if not quick:
        made: Any = llama()
        made.save_pretrained(str(Path(folder) / "llama"), max_shard_size="400MB")


def save(model: nn.Module, file: str) -> None:
    """Write a model's values into a file of safetensors."""
    from safetensors.torch import save_file

    save_file(model.state_dict(), file)
