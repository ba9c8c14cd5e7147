"""The ``inspect`` command: its arguments, and what it says where it cannot go on."""

from __future__ import annotations

import argparse
import os
import sys

from torchcreator._cli.inspect.options import Options, UnusableError
from torchcreator._cli.loading import loading

UNUSABLE = 2
"""The exit status when the model cannot be inspected, or a file cannot be read or written."""

HELP = "list every variable of a model, before it exists"
DESCRIPTION = (
    "List every variable of a model: how large it is, where, under which policy, and which "
    "creators decided that. The factory runs without memory for parameters, so that any size fits."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Give the command's parser its arguments."""
    parser.description = DESCRIPTION
    add = parser.add_argument
    add("path", metavar="package.module:factory", help="a function or class that returns a model")
    add(
        "arguments",
        metavar="ARGS",
        nargs="?",
        help="its arguments as JSON: a list of them, or an object of keywords",
    )
    add("--depth", type=_depth, default=1, metavar="N", help="levels of modules in the totals")
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
    """Inspect a model; return 0, or 2 where that is impossible."""
    words = {name: getattr(arguments, name) for name in Options.__annotations__}
    options = Options(**words)
    try:
        with loading():
            from torchcreator._cli.inspect.show import show
        show(options)
    except UnusableError as error:
        print(f"torchcreator inspect: error: {error}", file=sys.stderr)
        return UNUSABLE
    except BrokenPipeError:  # `| head` has seen enough; Python would complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _depth(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) < 4:
        return int(text)
    message = f"{text!r} is not a whole number from 0 to 999"
    raise argparse.ArgumentTypeError(message)
