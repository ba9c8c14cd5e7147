"""Holds what the ranks found against what was declared, claim by claim."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from torchcreator import VariableAggregation, VariableSpec, VariableSynchronization

GOOD_ACCURACY = 0.90
TOLERANCE = 1e-5
"""Float32 rounding: of a projection, and of a sum taken in another order."""

SHOWN = 12
"""How many characters of a digest are shown."""

Specs = Mapping[str, VariableSpec]


@dataclass(frozen=True)
class Report:
    """What one rank found; each mapping is by the variable's name.

    Attributes:
        before: The values before training.
        after: The values after it.
        own: The gradient of each trained variable that the rank's own batch gives.
        reduced: What the synchronised backward over the same batch left in ``.grad``.
        counted: What the counter reads, over all ranks.
        fed: How many scans this rank was fed.
        accuracy: The share of the held-out scans that this rank's model reads right.
    """

    before: Mapping[str, Tensor]
    after: Mapping[str, Tensor]
    own: Mapping[str, Tensor]
    reduced: Mapping[str, Tensor]
    counted: int
    fed: int
    accuracy: float


class Claim(NamedTuple):
    """One thing that the demo claims, and whether it holds; None where there is nothing to see."""

    holds: bool | None
    text: str


def claims(specs: Specs, reports: Sequence[Report]) -> Iterator[Claim]:
    """Check everything that was declared against what the ranks report, in rank order."""
    shared = [name for name, spec in specs.items() if not _is_per_rank(spec)]
    trained = [name for name, spec in specs.items() if spec.trainable]
    yield _shared_agree(shared, reports)
    yield _per_rank_differ([name for name in trained if name not in shared], reports)
    yield _gradients_follow(specs, reports)
    yield _constraints_hold(specs, reports)
    yield _frozen_stay([name for name in shared if name not in trained], reports)
    yield _counter_is_right(reports)
    yield _accuracy_is_good(reports)


def _is_per_rank(spec: VariableSpec) -> bool:
    own = (VariableSynchronization.NONE, VariableSynchronization.ON_READ)
    return spec.synchronization in own


def _claim(wrong: Iterable[str], failed: str, kept: str) -> Claim:
    """Return a claim that is kept if nothing is wrong."""
    names = ", ".join(wrong)
    return Claim(False, f"{failed}: {names}") if names else Claim(True, kept)


def _shared_agree(names: Sequence[str], reports: Sequence[Report]) -> Claim:
    first = reports[0].after
    wrong = [n for n in names if not all(torch.equal(r.after[n], first[n]) for r in reports)]
    together = hashlib.sha256(b"".join(first[n].numpy().tobytes() for n in names)).hexdigest()
    ranks = "the one rank" if len(reports) == 1 else f"all {len(reports)} ranks"
    kept = f"{len(names)} replicated variables are equal on {ranks} ({together[:SHOWN]}…)"
    return _claim(wrong, "replicated variables differ between ranks", kept)


def _per_rank_differ(names: Sequence[str], reports: Sequence[Report]) -> Claim:
    told = ", ".join(names)
    if len(reports) == 1:
        return Claim(None, f"per-rank variables: one rank, nothing to compare ({told})")
    different = {n: {report.after[n].numpy().tobytes() for report in reports} for n in names}
    equal = [n for n in names if len(different[n]) < len(reports)]
    kept = f"{len(names)} per-rank variables differ between ranks ({told})"
    return _claim(equal, "per-rank variables are equal on some ranks", kept)


def _gradients_follow(specs: Specs, reports: Sequence[Report]) -> Claim:
    wrong = [
        name
        for rank, report in enumerate(reports)
        for name in report.own
        if name not in report.reduced
        or not torch.allclose(
            report.reduced[name].double(),
            _expected(name, specs[name], rank, reports),
            rtol=TOLERANCE,
            atol=TOLERANCE,
        )
    ]
    kept = f"{len(reports[0].own)} gradients are the sum, mean, first rank's or own, as declared"
    return _claim(dict.fromkeys(wrong), "gradients not reduced as declared", kept)


def _expected(name: str, spec: VariableSpec, rank: int, reports: Sequence[Report]) -> Tensor:
    """Return the gradient that a policy asks for on one rank, from the ranks' own."""
    own = torch.stack([report.own[name].double() for report in reports])
    if _is_per_rank(spec):
        return own[rank]
    if spec.aggregation is VariableAggregation.ONLY_FIRST_REPLICA:
        return own[0]
    return own.sum(0) if spec.aggregation is VariableAggregation.SUM else own.mean(0)


def _constraints_hold(specs: Specs, reports: Sequence[Report]) -> Claim:
    wrong, longest = [], []
    for name, spec in specs.items():
        if spec.constraint is not None:
            moved = [(spec.constraint(r.after[name]) - r.after[name]).abs().max() for r in reports]
            # "All are small" rather than "the largest is small": a NaN is not small.
            if not all(distance <= TOLERANCE for distance in moved):
                wrong.append(name)
            longest.append(f"{name} {reports[0].after[name].norm(dim=-1).max():.4f}")
    kept = f"no constraint is violated (longest rows: {', '.join(longest)})"
    return _claim(wrong, "constraints are violated", kept)


def _frozen_stay(names: Sequence[str], reports: Sequence[Report]) -> Claim:
    moved = [n for n in names if not all(torch.equal(r.before[n], r.after[n]) for r in reports)]
    kept = f"frozen variables are as they were made ({', '.join(names)})"
    return _claim(moved, "frozen variables have changed", kept)


def _counter_is_right(reports: Sequence[Report]) -> Claim:
    fed = sum(report.fed for report in reports)
    counted = sorted({report.counted for report in reports})
    if counted != [fed]:
        return Claim(False, f"the counter reads {counted}, but {fed:,} scans were fed")
    addends = " + ".join(f"{report.fed:,}" for report in reports)
    return Claim(True, f"scans_seen reads {fed:,}, the scans fed to the ranks ({addends})")


def _accuracy_is_good(reports: Sequence[Report]) -> Claim:
    lowest = min(report.accuracy for report in reports)
    verdict = "above" if lowest > GOOD_ACCURACY else "not above"
    text = f"held-out accuracy is {lowest:.1%}, {verdict} {GOOD_ACCURACY:.0%}"
    if len(reports) > 1:
        text += ": the lowest rank's (the bar: rank 0's)"
    return Claim(lowest > GOOD_ACCURACY, text)
