"""The ``demo`` command: its arguments, and what has to be there before it can run."""

from __future__ import annotations

import argparse
import importlib.util
import signal

from torchcreator._cli.usage import UnusableError, on_interrupt, whole

PACKAGES = {"sklearn": "scikit-learn", "rich": "rich"}
"""What the ``demo`` extra brings, by the name that imports it."""

HELP = "train on handwritten digits and check every policy"
DESCRIPTION = (
    "Train a classifier of stock torch.nn modules on handwritten digits, on processes of this "
    "machine, with a policy for each parameter; then check that every policy was carried out."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Give the command's parser its arguments."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    add = parser.add_argument
    add("--world-size", type=whole(1, 32), default=2, metavar="N", help="processes")
    add("--epochs", type=whole(1, 1000), default=20, metavar="N", help="passes over the data")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="where to train")
    add("--seed", type=whole(0, 2**32 - 1), default=0, metavar="N", help="of all random numbers")
    add("--html", metavar="FILE", help="the page of the model (default: in a new directory)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; return 0 when all that it claims holds, 1 when not.

    Raises:
        UnusableError: It cannot start, or its page cannot be written.
    """
    names = [PACKAGES[name] for name in PACKAGES if importlib.util.find_spec(name) is None]
    if names:
        missing = " and ".join(names)
        raise UnusableError(f"{missing} not installed; run: pip install 'torchcreator[demo]'")
    with on_interrupt(signal.SIG_DFL):  # torch, and what the extra brings
        import torch

        from torchcreator._cli.demo.ranks import Options
        from torchcreator._cli.demo.show import show
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UnusableError("no CUDA device found; use --device cpu")
    return show(Options(**{name: getattr(arguments, name) for name in Options.__annotations__}))
