"""Build what others wrote, and compare it with plain construction: models of many libraries.

``python -m tests.conformance.sweep`` tries all that construct small, as far as the libraries are
installed, and prints a table; ``--minutes 15`` stops each library at its share of that time,
``--only timm peft`` takes these. It ends in 1 where a model differs, or an error is no BuildError.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import itertools
import os
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from tests.build.same import assert_same_model
from tests.build.torture import STARTS
from tests.conformance import others
from torchcreator import BuildError, build

os.environ.setdefault("HF_HUB_OFFLINE", "1")
Factory = Callable[[], nn.Module]
LARGEST = 30_000_000  # parameters
LIBRARIES: dict[str, Callable[[], Iterator[tuple[str, Factory]]]] = {
    "transformers": others.transformers_models,
    "timm": others.timm_models,
    "torchvision": others.torchvision_models,
    "peft": others.peft_models,
    "diffusers": others.diffusers_models,
    "torch_geometric": others.geometric_modules,
    "x_transformers": others.x_transformers_models,
    "e3nn": others.e3nn_modules,
}
SIZED = ("transformers", "timm", "torchvision", "diffusers")
"""Those of which some models are large: they are counted on meta first."""
EXACT, REFUSED, PLAIN, LARGE = "exact", "refused", "plain fails", "too large"
DIFFERS, RAW = "DIFFERS", "RAW ERROR"
COLUMNS = (EXACT, REFUSED, PLAIN, LARGE, DIFFERS, RAW)


def start() -> None:
    """Bring every generator into a state in which a normal value waits."""
    random.seed(0)
    np.random.seed(0)
    STARTS["a normal value waits"]()


def plainly(factory: Factory) -> tuple[nn.Module, torch.Tensor]:
    """Return what a factory makes, and the generator's state afterwards."""
    start()
    return factory(), torch.get_rng_state()


def outcome(factory: Factory, *, sized: bool = True) -> tuple[str, str]:
    """Return what became of a model, and a word on it.

    It is built first: what a library keeps for the next model is then made in the build.
    """
    size = _size(factory) if sized else 0
    if size > LARGEST:
        return LARGE, f"{size} parameters"
    start()
    failure: Exception | None = None
    try:
        built, left = build(factory), torch.get_rng_state()
    except Exception as error:  # plain construction tells whose it is
        failure = error
    try:
        plain, after = plainly(factory)
    except Exception as error:  # its configuration, or a library that is missing
        return PLAIN, said(error)
    if failure is not None:
        return (REFUSED if isinstance(failure, BuildError) else RAW), said(failure)
    try:
        assert_same_model(built, plain)
        assert torch.equal(left, after), "the generator's state"
    except AssertionError as error:
        if _varies(factory, plain):
            return PLAIN, "differs from itself"
        return DIFFERS, said(error)
    return EXACT, ""


def _varies(factory: Factory, plain: nn.Module) -> bool:
    """Return whether plain construction differs from itself: LAPACK does, by where memory lies."""
    held = []
    for number in range(8):
        held.append([torch.empty(length) for length in range(number, 4000, 37 + number)])
        try:
            assert_same_model(plainly(factory)[0], plain)
        except AssertionError:
            return True
    return False


def _size(factory: Factory) -> int:
    try:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in factory().parameters())
    except Exception:  # not every constructor runs there
        return 0


def said(error: Exception) -> str:
    """Return the beginning of an error's text."""
    return f"{type(error).__name__}: {error}".partition("\n")[0][:150]


def version(library: str) -> str | None:
    """Return the version of a library, None where it does not import."""
    try:
        importlib.import_module(library)
        return importlib.metadata.version(library.replace("_", "-"))
    except Exception:  # whatever an import does
        return None


def installed() -> list[str]:
    """Return the libraries that import."""
    return [library for library in LIBRARIES if version(library) is not None]


def sample(library: str, number: int, seed: int = 0) -> list[tuple[str, Factory]]:
    """Return some of a library's models, the same ones for a seed."""
    return shuffled(library, seed)[:number]


def shuffled(library: str, seed: int = 0) -> list[tuple[str, Factory]]:
    """Return all of a library's models in an order that a seed decides."""
    found = sorted(LIBRARIES[library](), key=lambda item: item[0])
    random.Random(seed).shuffle(found)
    return found


def sweep(library: str, seconds: float, seed: int) -> Counter[str]:
    """Try a library's models as long as there is time, and print what is not exact."""
    counted: Counter[str] = Counter()
    begin = time.monotonic()
    models = shuffled(library, seed)
    for name, factory in models:
        if time.monotonic() - begin > seconds:
            break
        result, word = outcome(factory, sized=library in SIZED)
        counted[result] += 1
        if result in (REFUSED, DIFFERS, RAW):
            print(f"  {library} {name}: {result}: {word}", flush=True)  # noqa: T201
    counted["tried"] = sum(counted.values())
    counted["of"] = len(models)
    return counted


def main() -> int:
    """Try the libraries, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=None, choices=list(LIBRARIES))
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows, left = [], options.only or installed()
    end = time.monotonic() + 60 * (options.minutes or 10_000)
    while left:
        share = (end - time.monotonic()) / len(left)
        library = left.pop(-1)  # the smallest ones first: what they leave, the large ones have
        counted = sweep(library, share, options.seed)
        rows.append((library, version(library), counted))
    heads = ("library", "version", "models", "tried", *COLUMNS)
    print("| " + " | ".join(heads) + " |")  # noqa: T201
    print("| --- | --- |" + " ---: |" * (len(heads) - 2))  # noqa: T201
    for library, number, counted in reversed(rows):
        cells = (library, number, counted["of"], counted["tried"], *(counted[c] for c in COLUMNS))
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)  # noqa: T201
    wrong = itertools.chain.from_iterable((c[DIFFERS], c[RAW]) for _, _, c in rows)
    return int(any(wrong))


if __name__ == "__main__":
    sys.exit(main())
