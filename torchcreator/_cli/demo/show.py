"""Shows the demo on the terminal: the variables, the training, and each claim with its verdict."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from tempfile import mkdtemp

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import torchcreator
from torchcreator._cli.demo import digits, messages
from torchcreator._cli.demo.checks import claims
from torchcreator._cli.demo.model import classifier
from torchcreator._cli.demo.options import Options
from torchcreator._cli.demo.ranks import RankError, started
from torchcreator._cli.demo.training import Training

MARKS = {True: "[green]✓[/]", False: "[bold red]✗[/]", None: "[dim]-[/]"}


def show(options: Options) -> int:
    """Train and check; return 0 when every claim holds, else 1."""
    console = Console(highlight=False)
    torch.set_num_threads(1)  # a fork does not survive in a process whose thread pool has started
    learn, held_out = digits.load(options.seed)
    console.print(_heading(options, len(learn), len(held_out)))
    training = Training(options, learn, held_out)
    fork = options.device == "cpu"  # CUDA does not survive one
    try:
        with started(training, world_size=options.world_size, fork=fork) as told:
            reports = _follow(told, options, console)
    except RankError as error:
        print(f"torchcreator demo: error: {error}", file=sys.stderr)
        return 1
    failed = _verdict(reports, console)
    _page(options, console)
    return failed


def _page(options: Options, console: Console) -> None:
    """Write the page of the model, and say where it is and what shows the same in a terminal."""
    path = options.html or str(Path(mkdtemp(prefix="torchcreator-"), "demo.html"))
    try:
        torchcreator.inspect(classifier).html(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    console.print(f"\nIts variables, to look at: {escape(path)}", soft_wrap=True)
    console.print(
        f"and in the terminal: torchcreator inspect {classifier.__module__}:{classifier.__name__}",
        soft_wrap=True,
    )


def _heading(options: Options, learn: int, held_out: int) -> str:
    processes = "process" if options.world_size == 1 else "processes"
    return (
        f"[bold]torchcreator {torchcreator.__version__}[/]: handwritten digits, {learn:,} scans "
        f"to learn from, {held_out} held out\n"
        f"{options.world_size} {processes}, {options.device}, seed {options.seed}\n"
    )


def _follow(
    told: Iterator[tuple[int, object]], options: Options, console: Console
) -> list[messages.Report]:
    """Show what the ranks tell until all have ended; return their reports in rank order."""
    reports: dict[int, messages.Report] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs  {task.fields[state]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=options.epochs, state="")
        for rank, message in told:
            if isinstance(message, messages.Variables):
                console.print(_table(message))
            elif isinstance(message, messages.Report):
                reports[rank] = message
            elif isinstance(message, messages.Progress) and rank == 0:
                state = f"loss {message.loss:.3f}  accuracy {message.accuracy:.1%}"
                progress.update(task, completed=message.epoch + 1, state=state)
    return [reports[rank] for rank in range(options.world_size)]


def _table(variables: messages.Variables) -> Table:
    headings = ("variable", "shape", "trained", "constraint", "synchronized", "aggregation")
    table = Table(*headings, box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    for row in variables.rows:
        table.add_row(*astuple(row))
    return table


def _verdict(reports: list[messages.Report], console: Console) -> int:
    checked = list(claims(reports))
    console.print()
    for claim in checked:
        console.print(MARKS[claim.holds], escape(claim.text), soft_wrap=True)
    failed = sum(claim.holds is False for claim in checked)
    if failed:
        console.print(f"\n[bold red]{failed} of {len(checked)} claims failed.[/]")
    return 1 if failed else 0
