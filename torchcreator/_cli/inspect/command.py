"""The ``inspect`` command: its arguments."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from torchcreator._cli.usage import on_interrupt, whole

HELP = "list every variable of a model, before it exists"
DESCRIPTION = (
    "List every variable of a model: how large it is, where, under which policy, and which "
    "creators decided that. The factory runs without memory for parameters, so that any size fits."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Give the command's parser its arguments."""
    parser.description = DESCRIPTION
    add, depth = parser.add_argument, whole(0, 999)
    add("path", metavar="package.module:factory", help="a function or class that returns a model")
    add(
        "arguments",
        metavar="ARGS",
        nargs="?",
        help="its arguments as JSON: a list of them, or an object of keywords",
    )
    add("--depth", type=depth, default=1, metavar="N", help="levels of modules in the totals")
    add("--filter", metavar="GLOB", help="only variables whose full name matches")
    add("--sort", metavar="COLUMN", help="order by a column: name, bytes, shape, dtype, ...")
    add("--reverse", action="store_true", help="the other way round, the largest first")
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--html", metavar="FILE", help="write a page to look at instead of a table")
    add(
        "--against",
        metavar="FILE.json",
        help="show what differs from an earlier --json, here or in the page",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Inspect a model and return 0.

    Raises:
        UnusableError: That is impossible.
    """
    with on_interrupt(signal.SIG_DFL):
        from torchcreator._cli.inspect.show import Options, show
    try:
        show(Options(**{name: getattr(arguments, name) for name in Options.__annotations__}))
    except BrokenPipeError:  # `| head` has seen enough; Python would complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
