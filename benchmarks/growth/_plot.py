"""Draw what was measured: times above, the ratio and its noise below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks._measure import Ratio

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito's, told apart by everyone
GREY = "#777777"


@dataclass(frozen=True)
class Curve:
    """One picture.

    Attributes:
        module: The file with the questions, below ``benchmarks.growth``.
        title: What is shown.
        axis: What grows, with its unit.
        linear: Whether it grows in equal steps, not by factors.
    """

    module: str
    title: str
    axis: str
    linear: bool = False


def draw(curve: Curve, rows: Sequence[Ratio], path: Path) -> None:
    """Draw one picture as SVG, the same bytes for the same rows."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    settings: dict[Any, Any] = {
        "svg.hashsalt": "torchcreator",
        "svg.fonttype": "none",
        "font.size": 9,
    }
    with mpl.rc_context({**settings, "axes.spines.top": False, "axes.spines.right": False}):
        figure: Any = Figure(figsize=(7, 6), layout="constrained")
        times, ratios = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        _times(times, rows)
        _ratios(ratios, rows)
        times.set(title=curve.title, ylabel="fastest time")
        if curve.linear:
            times.set_ylim(bottom=0)
            times.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            times.set(xscale="log", yscale="log")
        times.yaxis.set_major_formatter(EngFormatter("s"))
        ratios.set(xlabel=curve.axis, ylabel="ours / theirs")
        for axes in (times, ratios):
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
        figure.savefig(path, metadata={"Date": None})


def pairs(rows: Sequence[Ratio]) -> list[tuple[str, str, list[Ratio]]]:
    """Return what was compared with what, and the points of each comparison by size."""
    ordered = sorted(rows, key=lambda row: (row.work, row.against, row.size or 0.0))
    groups = groupby(ordered, key=lambda row: (row.work, row.against))
    return [(work, against, list(points)) for (work, against), points in groups]


def _times(axes: Any, rows: Sequence[Ratio]) -> None:
    """Draw a line for each way to do it; ours once, however often it was compared."""
    ours: dict[str, dict[float, float]] = {}
    theirs: dict[str, dict[float, float]] = {}
    for row in rows:
        size = row.size or 0.0
        for lines, name, value in ((ours, row.work, row.ours), (theirs, row.against, row.theirs)):
            line = lines.setdefault(name, {})
            line[size] = min(value, line.get(size, value))
    for colour, (name, line) in zip(COLOURS, sorted(ours.items()), strict=False):
        axes.plot(*_sorted(line), "o-", color=colour, label=_plain(name))
    for style, (name, line) in zip(
        ("s--", "^:", "v-.", "D--"), sorted(theirs.items()), strict=False
    ):
        axes.plot(*_sorted(line), style, color=GREY, markersize=4, label=_plain(name))


def _ratios(axes: Any, rows: Sequence[Ratio]) -> None:
    """Draw ratios, a bar from the lowest take to the highest, and the noise as a band around 1."""
    names = sorted({row.work for row in rows})
    for number, (work, against, points) in enumerate(pairs(rows)):
        places = [point.size for point in points]
        middle = [point.ratio for point in points]
        below = [max(0.0, point.ratio - point.low) for point in points]
        above = [max(0.0, point.high - point.ratio) for point in points]
        colour = COLOURS[(names.index(work) if len(names) > 1 else number) % len(COLOURS)]
        label = f"{_plain(work)} / {_plain(against)}"
        axes.errorbar(
            places, middle, (below, above), fmt="o-", color=colour, capsize=3, label=label
        )
    noise: dict[float, float] = {}
    for row in rows:
        off = max(row.noise or 1.0, 1 / (row.noise or 1.0))
        noise[row.size or 0.0] = max(off, noise.get(row.size or 0.0, 1.0))
    sizes, factors = _sorted(noise)
    lowest = [1 / factor for factor in factors]
    axes.fill_between(
        sizes, lowest, factors, color=GREY, alpha=0.3, label="the same function against itself"
    )
    axes.axhline(1.0, color=GREY, linewidth=0.8)
    axes.set_ylim(bottom=0)


def _sorted(line: dict[float, float]) -> tuple[list[float], list[float]]:
    """Return a line's coordinates from left to right."""
    sizes = sorted(line)
    return sizes, [line[size] for size in sizes]


def _plain(name: str) -> str:
    """Return a name without Markdown."""
    return name.replace("`", "")
