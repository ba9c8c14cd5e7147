"""Reads the command line and hands over to the command that it names."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

import torchcreator
from torchcreator._cli.demo import command as demo
from torchcreator._cli.inspect import command as inspect
from torchcreator._cli.usage import UnusableError

UNUSABLE = 2
"""The exit status of a command that cannot do what it was asked to."""
INTERRUPTED = 130
"""What a shell reports for a command that Ctrl-C ended: 128 + SIGINT."""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line; ``--help`` has the rest."""

    def error(self, message: str) -> NoReturn:
        """Print the complaint alone and exit with status 2."""
        self.exit(UNUSABLE, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name and return its exit status.

    Args:
        arguments: The words after the program's name; None reads them from ``sys.argv``.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except UnusableError as error:
        print(f"{options.prog}: error: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="torchcreator", description=torchcreator.__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=torchcreator.__version__)
    commands = parser.add_subparsers(required=True, metavar="command", title="commands")
    for name, command in (("demo", demo), ("inspect", inspect)):
        subparser = commands.add_parser(name, help=command.HELP, allow_abbrev=False)
        command.configure(subparser)
        subparser.set_defaults(prog=subparser.prog)
    return parser
