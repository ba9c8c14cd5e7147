"""Reads the command line and hands over to the command that it names; free of torch until then."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torchcreator
from torchcreator._cli.usage import UnusableError, on_interrupt

UNUSABLE = 2
"""The exit status of a command that cannot do what it was asked to."""
INTERRUPTED = 130
"""What a shell reports for a command that Ctrl-C ended: 128 + SIGINT."""
PACKAGES = {"sklearn": "scikit-learn", "rich": "rich"}
"""What the ``demo`` extra brings, by the name that imports it."""


ABOUT = """\
See which parameters a PyTorch model has, how large they are and who decided
that, before it takes any memory; or watch a small one train.
"""
ABOUT_INSPECT = """\
List every parameter of a model: how large it is, where, under which policy,
and which creators decided that. The model is made without memory for
parameters, so that any size fits.
"""
EXAMPLES = """\
examples:
  torchcreator demo
  torchcreator inspect torch.nn:Transformer '{"batch_first": true}'
  torchcreator inspect transformers:GPT2LMHeadModel --config '{"n_layer": 4}'
  torchcreator inspect torch.nn:LSTM '[512, 512, 8]' --training adamw --dtype bf16 --ranks 8
  torchcreator inspect torch.nn:LSTM '[512, 512, 8]' --html page.html
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name and return its exit status.

    Args:
        arguments: The words after the program's name; None reads them from ``sys.argv``.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except UnusableError as error:
        print(f"torchcreator {options.command}: error: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        return INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line; ``--help`` has the rest."""

    def error(self, message: str) -> NoReturn:
        """Print the complaint alone and exit with status 2."""
        self.exit(UNUSABLE, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="torchcreator",
        description=ABOUT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=torchcreator.__version__)
    commands = parser.add_subparsers(
        required=True, metavar="command", title="commands", dest="command"
    )
    demo = commands.add_parser(
        "demo",
        help="train a small model on this machine, and check all that was declared",
        description="Train a classifier of stock torch.nn modules on handwritten digits, on "
        "processes of this machine, with a policy for each parameter; then check that every "
        "policy was carried out.",
        allow_abbrev=False,
    )
    _describe_demo(demo)
    inspect = commands.add_parser(
        "inspect",
        help="list every parameter of a model of any size, without memory for it",
        description=ABOUT_INSPECT,
        epilog=EXAMPLES.replace("  torchcreator demo\n", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _describe_inspect(inspect)
    return parser


def _describe_demo(parser: argparse.ArgumentParser) -> None:
    def add(name: str, default: object, about: str, **kind: Any) -> None:
        parser.add_argument(name, default=default, help=f"{about} (default: {default})", **kind)

    add("--world-size", 2, "processes", type=_whole(1, 32), metavar="N")
    add("--epochs", 20, "passes over the data", type=_whole(1, 1000), metavar="N")
    add("--device", "cpu", "where to train", choices=["cpu", "cuda"])
    add("--seed", 0, "seed of all random numbers", type=_whole(0, 2**32 - 1), metavar="N")
    page = "the page of the model (default: in a new directory)"
    parser.add_argument("--html", metavar="FILE", help=page)
    parser.set_defaults(run=_demo)


def _describe_inspect(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    path = "a function or class that returns a model; or the folder of a model of transformers"
    add("path", metavar="package.module:factory", help=path)
    arguments = "its arguments as JSON: a list of them, or an object of keywords"
    add("arguments", metavar="ARGS", nargs="?", help=arguments)
    config = "for transformers:CLASS, a JSON object, a file with one, or a model's folder"
    add("--config", metavar="CONFIG", help=config)
    add("--all", action="store_true", help="a line for every variable: repeated blocks are one")
    training = "what training takes by this optimizer: adamw, sgd, sgd+momentum, ..."
    add("--training", metavar="OPTIMIZER", help=training)
    add("--dtype", metavar="DTYPE", help="as if everything were made in this dtype: bf16, ...")
    add("--ranks", type=_whole(1, 10**6), metavar="N", help="processes that train (1)")
    depth = "levels of modules in the totals"
    add("--depth", type=_whole(0, 999), default=1, metavar="N", help=depth)
    add("--filter", metavar="GLOB", help="only variables whose full name matches")
    add("--sort", metavar="COLUMN", help="order by a column: name, bytes, shape, dtype, ...")
    add("--reverse", action="store_true", help="the other way round, the largest first")
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--html", metavar="FILE", help="write a page to look at instead of a table")
    against = "show what differs from an earlier --json, here or in the page"
    add("--against", metavar="FILE.json", help=against)
    parser.set_defaults(run=_inspect)


def _whole(least: int, most: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from ``least`` to ``most``."""

    def read(text: str) -> int:
        plain = text.isascii() and text.isdecimal() and len(text) < 20
        if plain and least <= int(text) <= most:
            return int(text)
        message = f"{text!r} is not a whole number from {least} to {most}"
        raise argparse.ArgumentTypeError(message)

    return read


def _demo(arguments: argparse.Namespace) -> int:
    """Run the demo; return 0 when all that it claims holds, 1 when not."""
    names = [PACKAGES[name] for name in PACKAGES if importlib.util.find_spec(name) is None]
    if names:
        missing = " and ".join(names)
        raise UnusableError(f"{missing} not installed; run: pip install {' '.join(names)}")
    processes = "a process" if arguments.world_size == 1 else f"{arguments.world_size} processes"
    print(f"Starting {processes} to learn handwritten digits ...", flush=True)
    with on_interrupt(signal.SIG_DFL):
        import torch

        from torchcreator._cli.demo.ranks import Options
        from torchcreator._cli.demo.show import show
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UnusableError("no CUDA device found; use --device cpu")
    return show(Options(**{name: getattr(arguments, name) for name in Options.__annotations__}))


def _inspect(arguments: argparse.Namespace) -> int:
    """Inspect a model and return 0."""
    with on_interrupt(signal.SIG_DFL):
        from torchcreator._cli.inspect.show import Options, show
    try:
        show(Options(**{name: getattr(arguments, name) for name in Options.__annotations__}))
    except BrokenPipeError:  # `| head` has seen enough; Python would complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
