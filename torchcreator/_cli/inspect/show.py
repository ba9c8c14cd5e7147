"""Inspects the model that was asked for, and shows it in the way that was asked for."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import io
import json
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch

import torchcreator as tc
from torchcreator._cli.inspect.finding import find, read_arguments, read_dtype, told
from torchcreator._cli.inspect.hub import configured, is_folder
from torchcreator._cli.usage import UnusableError, reason, write_page
from torchcreator._errors import TorchCreatorError, did_you_mean
from torchcreator.report import Inventory, _files, _text
from torchcreator.report._text import Line, lines_of
from torchcreator.report._training import in_words


@dataclass(frozen=True)
class Options:
    """The command's arguments.

    Attributes:
        path: Where the factory is.
        arguments: Its arguments as JSON, or None.
        config: The configuration of a model of transformers, or None.
        all: Whether repeated blocks have a line for each variable.
        training: The optimizer to train by, or None.
        dtype: The dtype of everything that has a floating one, or None.
        ranks: How many processes train, or None.
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
    config: str | None
    all: bool
    training: str | None
    dtype: str | None
    ranks: int | None
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
    if options.ranks is not None and options.training is None:
        raise UnusableError("--ranks says how many train: add --training OPTIMIZER")
    before = None if options.against is None else _earlier(options.against)
    dtype = None if options.dtype is None else read_dtype(options.dtype)
    inventory = _chosen(_inspected(options, dtype), options)
    training = _training(inventory, options)
    if options.html is not None:
        write_page(inventory, options.html, before)
    _print(inventory, before, training, options)


def _found(options: Options) -> tuple[Any, torch.dtype | None]:
    """Return the factory, or the model, and the dtype that comes with it."""
    if options.config is None and not is_folder(options.path):
        found = find(options.path)
        positional, keywords = read_arguments(options.arguments, found, options.path)
        if keywords or positional:  # all of them are the factory's, `device` too
            found = functools.partial(found, *positional, **keywords)
        return found, None
    if options.arguments is not None:
        raise UnusableError("a model that has a configuration takes no other arguments")
    return configured(options.path, options.config)


def _inspected(options: Options, dtype: torch.dtype | None) -> Inventory:
    with redirect_stdout(sys.stderr):  # what the model prints is no part of the table
        found, asked = _found(options)
        try:
            inventory = tc.inspect(found)
        except TorchCreatorError as error:
            raise UnusableError(f"{options.path}: {'; '.join(str(error).splitlines())}") from None
        except (Exception, SystemExit) as error:
            raise UnusableError(f"{options.path} raised {told(error)}") from None
    if not len(inventory):
        raise UnusableError(f"{options.path}: the model has no parameters")
    inventory = dataclasses.replace(inventory, model=options.path)
    dtype = dtype or asked
    return inventory if dtype is None else _in_dtype(inventory, dtype)


def _in_dtype(inventory: Inventory, dtype: torch.dtype) -> Inventory:
    """Return an inventory as if everything that has a floating dtype were made in this one."""
    rows = tuple(
        dataclasses.replace(
            row,
            dtype=dtype,
            local_nbytes=row.local_nbytes // row.dtype.itemsize * dtype.itemsize,
        )
        if row.dtype.is_floating_point
        else row
        for row in inventory
    )
    return dataclasses.replace(inventory, rows=rows)


def _training(inventory: Inventory, options: Options) -> dict[str, Any] | None:
    if options.training is None:
        return None
    try:
        return inventory.training(options.training, ranks=options.ranks or 1)
    except TorchCreatorError as error:
        raise UnusableError(f"--training: {' '.join(str(error).splitlines()[::2])}") from None


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


def _lines(inventory: Inventory, options: Options) -> list[Line]:
    """Return the lines of the table; those of repeated blocks are as large as all of them."""
    lines = lines_of(inventory.rows, every=options.all)
    if options.sort == "bytes":
        lines.sort(key=lambda line: line.nbytes, reverse=options.reverse)
    if options.sort == "elements":
        lines.sort(key=lambda line: line.elements, reverse=options.reverse)
    return lines


def _print(
    inventory: Inventory,
    before: dict[str, Any] | None,
    training: dict[str, Any] | None,
    options: Options,
) -> None:
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        _show(inventory, before, training, options)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk
        raise UnusableError(f"the output cannot be written: {reason(error)}") from None


def _show(
    inventory: Inventory,
    before: dict[str, Any] | None,
    training: dict[str, Any] | None,
    options: Options,
) -> None:
    if options.json:
        added = {} if training is None else {"training": training}
        print(json.dumps(inventory.document(options.depth) | added, indent=1, allow_nan=False))
        return
    if options.html is not None:
        print(f"{options.html}: {len(inventory):,} variables, {_text.size(inventory.nbytes)}")
    elif before is not None:
        print(inventory.difference(before))
    elif sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        from torchcreator._cli.inspect.terminal import draw

        draw(_lines(inventory, options), inventory.totals(options.depth))
    else:
        print(_text.table(_lines(inventory, options), inventory.totals(options.depth)))
    if training is not None:
        print(f"\n{in_words(training)}")
