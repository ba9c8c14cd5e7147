"""Holds what the ranks found against what was declared, claim by claim."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torchcreator._cli.demo.messages import Report

GOOD_ACCURACY = 0.90
TOLERANCE = 1e-5
"""Float32 rounding: of a projection, and of a sum taken in another order."""

SHOWN = 12
"""How many characters of a digest are shown."""


@dataclass(frozen=True)
class Claim:
    """One thing that the demo claims, and whether it holds; None where there is nothing to see."""

    holds: bool | None
    text: str


def claims(reports: Sequence[Report]) -> Iterator[Claim]:
    """Check everything that was declared against what the ranks report, in rank order."""
    yield replicated_are_equal(reports)
    yield per_rank_differ(reports)
    yield gradients_follow_policy(reports)
    yield constraints_hold(reports)
    yield frozen_stay(reports)
    yield counter_is_right(reports)
    yield accuracy_is_good(reports)


def replicated_are_equal(reports: Sequence[Report]) -> Claim:
    """Claim that variables with one value have it on every rank."""
    first = reports[0].replicated
    unequal = [n for n in first if len({report.replicated[n] for report in reports}) > 1]
    if unequal:
        return Claim(False, f"replicated variables differ between ranks: {_names(unequal)}")
    together = hashlib.sha256("".join(first.values()).encode()).hexdigest()[:SHOWN]
    return Claim(
        True, f"{len(first)} replicated variables are equal on {_ranks(reports)} ({together}…)"
    )


def per_rank_differ(reports: Sequence[Report]) -> Claim:
    """Claim that variables with a value per rank were left to their ranks."""
    names = reports[0].per_rank
    if len(reports) == 1:
        return Claim(None, f"per-rank variables: one rank, nothing to compare ({_names(names)})")
    equal = [n for n in names if len({report.per_rank[n] for report in reports}) < len(reports)]
    if equal:
        return Claim(False, f"per-rank variables are equal on some ranks: {_names(equal)}")
    return Claim(True, f"{len(names)} per-rank variables differ between ranks ({_names(names)})")


def gradients_follow_policy(reports: Sequence[Report]) -> Claim:
    """Claim that each gradient was reduced as its variable declares."""
    wrong = [
        name
        for rank, report in enumerate(reports)
        for name in report.gradients
        if not _close(report.gradients[name].reduced, _expected(reports, rank, name))
    ]
    if wrong:
        return Claim(False, f"gradients not reduced as declared: {_names(dict.fromkeys(wrong))}")
    return Claim(
        True,
        f"{len(reports[0].gradients)} gradients are the sum, mean, first rank's or own, "
        "as declared",
    )


def constraints_hold(reports: Sequence[Report]) -> Claim:
    """Claim that no variable is outside what its constraint allows, on any rank."""
    names = reports[0].overshoot
    # "All are small" rather than "the largest is small": a NaN is not small.
    broken = [n for n in names if not all(r.overshoot[n] <= TOLERANCE for r in reports)]
    if broken:
        return Claim(False, f"constraints are violated: {_names(broken)}")
    rows = ", ".join(f"{name} {length:.4f}" for name, length in reports[0].longest_rows.items())
    return Claim(True, f"no constraint is violated (longest rows: {rows})")


def frozen_stay(reports: Sequence[Report]) -> Claim:
    """Claim that variables which are not trained were not changed by training."""
    names = reports[0].frozen
    moved = [n for n in names if not all(report.frozen[n] for report in reports)]
    if moved:
        return Claim(False, f"frozen variables have changed: {_names(moved)}")
    return Claim(True, f"frozen variables are as they were made ({_names(names)})")


def counter_is_right(reports: Sequence[Report]) -> Claim:
    """Claim that the counter reads, on every rank, what all ranks together were fed."""
    fed = sum(report.fed for report in reports)
    counted = sorted({report.counted for report in reports})
    if counted != [fed]:
        return Claim(False, f"the counter reads {counted}, but {fed:,} scans were fed")
    addends = " + ".join(f"{report.fed:,}" for report in reports)
    return Claim(True, f"scans_seen reads {fed:,}, the scans fed to the ranks ({addends})")


def accuracy_is_good(reports: Sequence[Report]) -> Claim:
    """Claim that every rank's model reads most held-out scans right."""
    lowest = min(report.accuracy for report in reports)
    verdict = "above" if lowest > GOOD_ACCURACY else "not above"
    return Claim(
        lowest > GOOD_ACCURACY,
        f"held-out accuracy is {lowest:.1%}, {verdict} {GOOD_ACCURACY:.0%}",
    )


def _expected(reports: Sequence[Report], rank: int, name: str) -> list[float]:
    """Return the gradient that a variable's policy asks for on one rank, from the ranks' own."""
    own = [report.gradients[name].own for report in reports]
    policy = reports[rank].gradients[name].aggregation
    if name in reports[rank].per_rank:
        return list(own[rank])
    if policy == "only_first_replica":
        return list(own[0])
    sums = [math.fsum(column) for column in zip(*own, strict=True)]
    return sums if policy == "sum" else [value / len(reports) for value in sums]


def _close(left: Sequence[float], right: Sequence[float]) -> bool:
    """Return whether two vectors are equal but for rounding; NaN is close to nothing."""
    return len(left) == len(right) and all(
        abs(a - b) <= TOLERANCE * max(1.0, abs(b)) for a, b in zip(left, right, strict=True)
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)


def _ranks(reports: Sequence[Report]) -> str:
    return "the one rank" if len(reports) == 1 else f"all {len(reports)} ranks"
