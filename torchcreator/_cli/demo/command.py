"""The ``demo`` command: its arguments, and what has to be there before it can run."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable

from torchcreator._cli.demo.options import Options
from torchcreator._cli.loading import loading

PACKAGES = {"sklearn": "scikit-learn", "rich": "rich"}
"""What the ``demo`` extra brings, by the name that imports it."""

UNUSABLE = 2
"""The exit status when the demo cannot start as it was asked to."""

MOST_RANKS = 32
MOST_EPOCHS = 1000

HELP = "train on handwritten digits and check every policy"
DESCRIPTION = (
    "Train a classifier of stock torch.nn modules on handwritten digits, on processes of this "
    "machine, with a policy for each parameter; then check that every policy was carried out."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Give the command's parser its arguments."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    default = Options()
    add = parser.add_argument
    ranks, epochs, seed = _whole(1, MOST_RANKS), _whole(1, MOST_EPOCHS), _whole(0, 2**32 - 1)
    add("--world-size", type=ranks, default=default.world_size, metavar="N", help="processes")
    add("--epochs", type=epochs, default=default.epochs, metavar="N", help="passes over the data")
    add("--device", choices=["cpu", "cuda"], default=default.device, help="where to train")
    add("--seed", type=seed, default=default.seed, metavar="N", help="seed of all random numbers")
    add("--html", metavar="FILE", help="the page of the model (default: in a new directory)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; return 0 when all that it claims holds, 1 when not, 2 when it cannot start."""
    options = Options(**{name: getattr(arguments, name) for name in Options.__annotations__})
    if obstacle := _missing_packages() or _missing_device(options.device):
        print(f"torchcreator demo: error: {obstacle}", file=sys.stderr)
        return UNUSABLE
    with loading():  # torch, and what the extra brings; no process has been started yet
        from torchcreator._cli.demo.show import show
    try:
        return show(options)
    except OSError as error:
        reason = error.strerror or str(error)
        print(f"torchcreator demo: error: {error.filename!r}: {reason}", file=sys.stderr)
        return UNUSABLE


def _whole(least: int, most: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from ``least`` to ``most``."""

    def read(text: str) -> int:
        if text.isdecimal() and least <= int(text) <= most:
            return int(text)
        message = f"{text!r} is not a whole number from {least} to {most}"
        raise argparse.ArgumentTypeError(message)

    return read


def _missing_packages() -> str:
    """Return one line that says what to install; empty when all is there."""
    names = [PACKAGES[name] for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not names:
        return ""
    return f"{' and '.join(names)} not installed; run: pip install 'torchcreator[demo]'"


def _missing_device(device: str) -> str:
    """Return one line that says why ``device`` cannot be used; empty when it can."""
    if device == "cpu":
        return ""
    import torch

    return "" if torch.cuda.is_available() else "no CUDA device found; use --device cpu"
