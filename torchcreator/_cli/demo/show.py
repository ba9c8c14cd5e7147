"""Shows the demo on the terminal: the variables, the training, and each claim with its verdict."""

from __future__ import annotations

import sys
from inspect import getsource
from operator import itemgetter
from pathlib import Path
from tempfile import mkdtemp

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.table import Table
from torch.multiprocessing.spawn import ProcessContext, ProcessException

import torchcreator as tc
from torchcreator._cli.demo import example
from torchcreator._cli.demo.checks import Claim
from torchcreator._cli.demo.ranks import Options, Told, started
from torchcreator._cli.usage import invocation, write_page
from torchcreator.report import Inventory
from torchcreator.report._text import words

MARKS = {True: "[green]✓[/]", False: "[bold red]✗[/]", None: "[dim]-[/]"}
_CELLS = itemgetter("name", "shape", "trainable", "constraint", "synchronization", "aggregation")
GRACE = 3.0
"""Seconds that the other ranks have to end when one has failed."""


def show(options: Options) -> int:
    """Train and check; return 0 when every claim holds, else 1.

    Raises:
        UnusableError: The page cannot be written.
    """
    console = Console(highlight=False)
    torch.set_num_threads(1)  # a fork does not survive in a process whose thread pool has started
    inventory = tc.inspect(example.classifier)
    page = options.html or str(Path(mkdtemp(prefix="torchcreator-"), "demo.html"))
    write_page(inventory, page)  # before anybody has waited for the training
    console.print(_heading(options))
    console.print(Syntax(getsource(example.classifier), "python", background_color="default"))
    console.print(_table(inventory))
    try:
        with started(options) as (ranks, told):
            claims = _follow(ranks, told, options, console)
    except ProcessException as error:
        text = f"rank {error.error_index} failed\n{str(error).strip()}"
        print(f"torchcreator demo: error: {text}", file=sys.stderr)
        return 1
    failed = _verdict(claims, console)
    for line in (
        f"\nThe model and its training, to read: {example.__file__}",
        f"Its variables, to look at: {page}",
        f"and in the terminal: {invocation()} inspect {example.__name__}:classifier",
    ):
        console.print(escape(line), soft_wrap=True)
    return failed


def _heading(options: Options) -> str:
    learn, held_out = (len(part) for part in example.scans(options.seed))
    return (
        f"{learn:,} scans to learn from, {held_out} held out; {options.device}, seed "
        f"{options.seed}, torchcreator {tc.__version__}\n\n"
        "[bold]The model[/], stock modules that are made under a few scopes:\n"
    )


def _table(inventory: Inventory) -> Table:
    """Return the variables and the policies that they will be made under."""
    headings = ("variable", "shape", "trained", "constraint", "synchronized", "aggregation")
    table = Table(*headings, box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    for name, shape, trainable, constraint, *policies in map(_CELLS, map(words, inventory)):
        table.add_row(name, shape, trainable, constraint.partition("(")[0], *policies)
    return table


def _follow(ranks: ProcessContext, told: Told, options: Options, console: Console) -> list[Claim]:
    """Show how training goes until all ranks have ended; return what they claim."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs  {task.fields[state]}"),
        TimeElapsedColumn(),
    )
    claims: list[Claim] = []
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=options.epochs, state="")
        ended = False
        while not ended:
            ended = ranks.join(timeout=0.05, grace_period=GRACE)
            while not told.empty():
                message = told.get()
                if isinstance(message, str):
                    progress.update(task, advance=1, state=message)
                else:
                    claims = message
    return claims


def _verdict(claims: list[Claim], console: Console) -> int:
    console.print()
    for claim in claims:
        console.print(MARKS[claim.holds], escape(claim.text))
    failed = sum(claim.holds is False for claim in claims)
    if failed:
        console.print(f"\n[bold red]{failed} of {len(claims)} claims failed.[/]")
    return 1 if failed or not claims else 0
