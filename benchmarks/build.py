"""What `build`, `defer` and `materialize` cost against plain construction, in time and memory.

Run as ``python -m benchmarks.build``. GPT-2 and the Llama shape need transformers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

import torchcreator as tc
from benchmarks._measure import Ratio, compare, print_table

Factory = Callable[[], nn.Module]
MIB = 1 << 20


def linears() -> nn.Module:
    """Make 300 tiny layers: all of the time is Python's."""
    return nn.Sequential(*(nn.Linear(16, 16) for _ in range(300)))


def gpt2() -> nn.Module:
    """Make GPT-2 small."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model: nn.Module = GPT2LMHeadModel(GPT2Config())
    return model


def llama(*, hidden_size: int = 768, layers: int = 12, intermediate_size: int = 2048) -> nn.Module:
    """Make a Llama of the shape that its figures name."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 64,
        num_key_value_heads=hidden_size // 64,
        vocab_size=32000,
    )
    model: nn.Module = LlamaForCausalLM(config)
    return model


def llama_1b() -> nn.Module:
    """Make a Llama of about a billion parameters."""
    return llama(hidden_size=2048, layers=18, intermediate_size=5632)


def twice() -> nn.Module:
    """Make layers that are initialised twice, as most libraries do."""
    layers = [nn.Linear(2048, 2048) for _ in range(12)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.02)
    return nn.Sequential(*layers)


def on_meta(factory: Factory) -> nn.Module:
    """Construct on the meta device, as one would without this library."""
    with torch.device("meta"):
        return factory()


def rows(
    name: str, factory: Factory, *, seeded: float | None, exact: float | None
) -> Iterator[Ratio]:
    """Time the three ways to build one model."""
    yield compare(
        f"{name}: `build(seed=…)`, against plain",
        lambda: tc.build(factory, seed=0),
        factory,
        seconds=20.0 if exact else 4.0,
        at_most=seeded,
    )
    yield compare(
        f"{name}: exact `build`, against plain",
        lambda: tc.build(factory),
        factory,
        seconds=20.0 if exact else 4.0,
        at_most=exact,
    )
    yield compare(
        f'{name}: `defer`, against `torch.device("meta")`',
        lambda: tc.defer(factory),
        lambda: on_meta(factory),
        seconds=6.0,
        at_most=1.2,
    )


WAYS: dict[str, Callable[[Factory], nn.Module]] = {
    "plain": lambda factory: factory(),
    "exact": tc.build,
    "seeded": lambda factory: tc.build(factory, seed=0),
    "deferred": tc.defer,
    "refused": lambda factory: _refused(factory),
}
MODELS: dict[str, Factory] = {"twice": twice, "gpt2": gpt2, "llama_1b": llama_1b}


def _refused(factory: Factory) -> nn.Module:
    """Build with a creator that answers every variable itself, on meta."""
    with tc.creator_scope(
        lambda next_creator, **kwargs: next_creator(**{**kwargs, "device": "meta"})
    ):
        return tc.build(factory)


def peak(way: str, model: str) -> None:
    """Print the MiB by which resident memory rises at most, measured in this process."""
    WAYS[way](lambda: nn.Linear(2, 2))
    if model != "twice":
        on_meta(MODELS[model])  # imports
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts at what is resident
    before = _resident("VmRSS")
    made = WAYS[way](MODELS[model])
    print((_resident("VmHWM") - before) / 1024, sum(p.nbytes for p in made.parameters()) / MIB)


def _resident(word: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(word)).split()[1])


def print_memory(cases: list[tuple[str, str]]) -> None:
    """Print peaks, each measured in a process of its own."""
    print("| model | way | peak above start, MiB | parameters, MiB |\n| --- | --- | ---: | ---: |")
    for model, way in cases:
        command = [sys.executable, "-m", "benchmarks.build", way, model]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        rise, size = run.stdout.split()[-2:]
        print(f"| {model} | {way} | {float(rise):.0f} | {float(size):.0f} |")


def main() -> None:
    """Print every row."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if len(sys.argv) == 3:
        peak(*sys.argv[1:])
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    table = [*rows("300 Linear(16, 16)", linears, seeded=4.0, exact=None)]
    memory = [("twice", way) for way in ("plain", "exact", "seeded", "deferred", "refused")]
    try:
        import transformers
    except ImportError as error:
        print(f"GPT-2 and Llama are left out: {error}")
    else:
        transformers.logging.set_verbosity_error()
        table += rows("GPT-2", gpt2, seeded=0.36, exact=1.05)
        table += rows("Llama, 12 layers of 768", llama, seeded=0.36, exact=1.05)
        memory += [("gpt2", way) for way in ("plain", "exact", "seeded", "refused")]
        memory += [("llama_1b", "deferred")]
    print_table(table)
    print()
    print_memory(memory)


if __name__ == "__main__":
    main()
