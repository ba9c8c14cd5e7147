"""Inspects the model that was asked for, and shows it in the way that was asked for."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import io
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import torchcreator as tc
from torchcreator._cli.inspect.finding import find, read_arguments, told
from torchcreator._cli.usage import UnusableError, reason, write_page
from torchcreator._errors import TorchCreatorError, did_you_mean
from torchcreator.report import Inventory, _files, _text


@dataclass(frozen=True)
class Options:
    """The command's arguments.

    Attributes:
        path: Where the factory is.
        arguments: Its arguments as JSON, or None.
        depth: How many levels of modules the totals list.
        filter: A glob that names have to match, or None.
        sort: The column to order by, or None.
        reverse: Whether the order is turned round.
        json: Whether to print JSON.
        html: The page to write, or None.
        against: The earlier document to compare with, or None.
    """

    path: str
    arguments: str | None
    depth: int
    filter: str | None
    sort: str | None
    reverse: bool
    json: bool
    html: str | None
    against: str | None


def show(options: Options) -> None:
    """Inspect and show.

    Raises:
        UnusableError: Something cannot be used; nothing has been printed or written then.
    """
    if options.against is not None and options.json:
        raise UnusableError("--against shows what differs; print JSON without it")
    before = None if options.against is None else _earlier(options.against)
    inventory = _chosen(_inspected(options), options)
    if options.html is not None:
        write_page(inventory, options.html, before)
    _print(inventory, before, options)


def _inspected(options: Options) -> Inventory:
    with redirect_stdout(sys.stderr):  # what the model prints is no part of the table
        found = find(options.path)
        positional, keywords = read_arguments(options.arguments, found, options.path)
        if keywords or positional:  # all of them are the factory's, `device` too
            found = functools.partial(found, *positional, **keywords)
        try:
            inventory = tc.inspect(found)
        except TorchCreatorError as error:
            raise UnusableError(f"{options.path}: {'; '.join(str(error).splitlines())}") from None
        except (Exception, SystemExit) as error:
            raise UnusableError(f"{options.path} raised {told(error)}") from None
    if not len(inventory):
        raise UnusableError(f"{options.path}: the model has no parameters")
    return dataclasses.replace(inventory, model=options.path)


def _chosen(inventory: Inventory, options: Options) -> Inventory:
    """Return the rows that were asked for, in the order that was asked for."""
    if options.filter is not None:
        names = [name for row in inventory for name in (row.name, *row.ties)]
        inventory = inventory.matching(options.filter)
        if not len(inventory):
            near = did_you_mean(options.filter, names)
            raise UnusableError(f"--filter {options.filter!r} matches no variable{near}")
    if options.sort is not None:
        try:
            return inventory.ordered(options.sort, reverse=options.reverse)
        except TorchCreatorError as error:
            raise UnusableError(f"--sort: {' '.join(str(error).splitlines()[::2])}") from None
    if options.reverse:
        inventory = dataclasses.replace(inventory, rows=inventory.rows[::-1])
    return inventory


def _earlier(path: str) -> dict[str, Any]:
    try:
        return _files.read(path)
    except OSError as error:
        raise UnusableError(f"{path!r} cannot be read: {reason(error)}") from None
    except TorchCreatorError as error:
        raise UnusableError(f"--against: {str(error).splitlines()[0]}") from None


def _print(inventory: Inventory, before: dict[str, Any] | None, options: Options) -> None:
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        if options.json:
            print(inventory.json(options.depth))
        elif options.html is not None:
            print(f"{options.html}: {len(inventory)} variables, {_text.size(inventory.nbytes)}")
        elif before is not None:
            print(inventory.difference(before))
        elif sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
            from torchcreator._cli.inspect.terminal import draw

            draw(inventory, options.depth)
        else:
            print(_text.table(inventory.rows, inventory.totals(options.depth)))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk
        raise UnusableError(f"the output cannot be written: {reason(error)}") from None
