"""Build with `from_checkpoint`, against an empty model and `load_state_dict(assign=True)`.

    python -m benchmarks.checkpoint [--gib 2]

Time, in turns; and the memory that each takes, each in a process of its own: its own pages at the
end, and the most there were while it loaded, pages of the file left out. Where they are installed,
accelerate loads the same file, and transformers' ``from_pretrained`` a Llama of the same size.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import multiprocessing
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

import torchcreator as tc
from benchmarks._measure import Ratio, compare, print_table

_WIDTH = 2048
_BYTES = _WIDTH * _WIDTH * 4


def model(layers: int) -> nn.Module:
    """Return a model of that many matrices of 16 MiB."""
    return nn.ModuleList(nn.Linear(_WIDTH, _WIDTH, bias=False) for _ in range(layers))


def ours(path: Path, layers: int) -> nn.Module:
    """Build it with its values from the file."""
    with tc.creator_scope(tc.creators.from_checkpoint(path)):
        return tc.build(model, layers, seed=0)


def theirs(path: Path, layers: int) -> nn.Module:
    """Construct it on meta, and assign the file's tensors."""
    with torch.device("meta"):
        empty = model(layers)
    empty.load_state_dict(load_file(path), assign=True)
    return empty


def accelerated(path: Path, layers: int) -> nn.Module:
    """Do it accelerate's way."""
    accelerate: Any = importlib.import_module("accelerate")
    with accelerate.init_empty_weights():
        empty = model(layers)
    accelerate.load_checkpoint_in_model(empty, str(path), device_map={"": "cpu"})
    return empty


def llama(gib: float) -> Any:
    """Return the configuration of a Llama whose parameters take that much."""
    transformers: Any = importlib.import_module("transformers")
    layer = 4 * _WIDTH * _WIDTH + 3 * _WIDTH * 5632
    layers = max(1, int((gib * 2**28 - 2 * 8000 * _WIDTH) / layer))
    return transformers.LlamaConfig(
        hidden_size=_WIDTH,
        intermediate_size=5632,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=16,
        vocab_size=8000,
    )


def against_transformers(gib: float, folder: Path, seconds: float) -> Ratio:
    """Load a Llama with its own ``from_pretrained``, and with a build."""
    transformers: Any = importlib.import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    config, kind = llama(gib), transformers.LlamaForCausalLM
    tc.build(kind, config, seed=0).save_pretrained(folder)

    def built() -> Any:
        with tc.creator_scope(tc.creators.from_checkpoint(folder)):
            return tc.build(kind, config, seed=0)

    def pretrained() -> Any:
        return kind.from_pretrained(folder)

    return compare(
        f"Llama, {gib:g} GiB, against from_pretrained", built, pretrained, seconds=seconds
    )


WAYS: dict[str, Callable[[Path, int], nn.Module]] = {
    "build with from_checkpoint": ours,
    "meta, load_file, assign=True": theirs,
    "accelerate": accelerated,
}


def own_bytes() -> int:
    """Return the bytes of this process that are not pages of files."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(row for row in status if row.startswith("RssAnon")).split()[1]) * 1024


@contextlib.contextmanager
def watched(peak: list[int]) -> Iterator[None]:
    """Add the largest number of own bytes that was seen in the block."""
    done = threading.Event()
    peak.append(own_bytes())

    def watch() -> None:
        while not done.wait(1e-4):
            peak[-1] = max(peak[-1], own_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        peak[-1] = max(peak[-1], own_bytes())


def memory(way: str, path: Path, layers: int, results: Any) -> None:
    """Report the memory that one way takes, in a process that did nothing else."""
    WAYS[way](path, layers)  # once before, for what is imported on first use
    before = own_bytes()
    peak: list[int] = []
    with watched(peak):
        made = WAYS[way](path, layers)
    results.put((way, peak[0] - before, own_bytes() - before))
    del made


def print_memory(ways: list[str], path: Path, layers: int) -> None:
    """Print a table of what each way takes."""
    context = multiprocessing.get_context("spawn")
    print("\n| way | own memory at its peak | and at the end |\n| --- | ---: | ---: |")
    for way in ways:
        results: Any = context.Queue()
        process = context.Process(target=memory, args=(way, path, layers, results))
        process.start()
        name, peak, end = results.get(timeout=600)
        process.join()
        print(f"| {name} | {peak / 2**20:.1f} MiB | {end / 2**20:.1f} MiB |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    layers = int(arguments.gib * 2**30 / _BYTES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file({f"{i}.weight": torch.randn(_WIDTH, _WIDTH) for i in range(layers)}, path)
        installed = importlib.util.find_spec("accelerate") is not None
        ways = [way for way in WAYS if way != "accelerate" or installed]
        rows = [
            compare(
                f"{arguments.gib:g} GiB, against {way}",
                lambda: ours(path, layers),
                lambda way=way: WAYS[way](path, layers),  # type: ignore[misc]
                at_most=1.3 if way == ways[1] else None,
                seconds=arguments.seconds,
            )
            for way in ways[1:]
        ]
        if importlib.util.find_spec("transformers") is not None:
            rows.append(
                against_transformers(arguments.gib, Path(folder) / "llama", arguments.seconds)
            )
        print_table(rows)
        print_memory(ways, path, layers)


if __name__ == "__main__":
    main()
