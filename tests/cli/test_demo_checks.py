"""Each of the demo's claims holds where it should, and fails where it should."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

import torchcreator as tc
from torchcreator._cli.demo import checks
from torchcreator._cli.demo.checks import Report

NAN = float("nan")
SPECS = {
    name: tc.spec_of(tc.variable([[0.0]], name=name, **policies))
    for name, policies in {
        "lift": {"trainable": False},
        "head": {"constraint": "non_neg"},
        "gain": {"aggregation": "sum"},
        "slope": {"aggregation": "only_first_replica"},
        "expert": {"synchronization": "none"},
    }.items()
}


def tensors(**values):
    return {name: torch.tensor([[value]]) for name, value in values.items()}


def report(rank):
    """Return what one of two ranks reports whose own gradients are 1 and 2."""
    own = rank + 1.0
    values = tensors(lift=1.0, head=1.0, gain=1.0, slope=1.0, expert=own)
    return Report(
        before=values,
        after=values,
        own=tensors(head=own, gain=own, slope=own, expert=own),
        reduced=tensors(head=1.5, gain=3.0, slope=1.0, expert=own),
        counted=30,
        fed=10 + 10 * rank,
        accuracy=0.95 - 0.01 * rank,
    )


REPORTS = [report(0), report(1)]


def after(**changed):
    return {"after": {**REPORTS[1].after, **tensors(**changed)}}


def reduced(**changed):
    return {"reduced": {**REPORTS[1].reduced, **tensors(**changed)}}


FAILURES = {
    "replicated differ": (after(slope=2.0), "differ between ranks: slope$"),
    "per-rank equal": (after(expert=1.0), "equal on some ranks: expert$"),
    "mean for sum": (reduced(gain=1.5), "not reduced as declared: gain$"),
    "own for first": (reduced(slope=2.0), "not reduced as declared: slope$"),
    "reduced for own": (reduced(expert=1.5), "not reduced as declared: expert$"),
    "no gradient": ({"reduced": tensors(gain=3.0, slope=1.0, expert=2.0)}, "declared: head$"),
    "not a number": (reduced(head=NAN), "not reduced as declared: head$"),
    "frozen moved": ({"before": {**REPORTS[1].before, **tensors(lift=2.0)}}, "changed: lift$"),
    "miscounted": ({"counted": 29}, r"the counter reads \[29, 30\], but 30 scans were fed"),
    "inaccurate": ({"accuracy": 0.9}, "accuracy is 90.0%, not above 90%"),
}


def failed(reports):
    return [text for holds, text in checks.claims(SPECS, reports) if holds is False]


def test_all_claims_hold_of_sound_reports():
    """Reports of a sound run pass every claim, each in one line."""
    found = list(checks.claims(SPECS, REPORTS))
    assert [claim.holds for claim in found] == [True] * 7
    assert not any("\n" in claim.text for claim in found)


@pytest.mark.parametrize(("change", "text"), FAILURES.values(), ids=FAILURES)
def test_one_wrong_rank_fails_one_claim(change, text):
    """What is wrong on the last rank alone fails the claim about it, by name, and no other."""
    (found,) = failed([REPORTS[0], replace(REPORTS[1], **change)])
    assert re.search(text, found)


@pytest.mark.parametrize("value", [-0.01, NAN], ids=["outside", "not a number"])
def test_a_broken_constraint_fails_its_claim(value):
    """A value outside its constraint is named; so is one that is no number at all."""
    values = {**REPORTS[0].after, **tensors(head=value)}
    broken = [replace(each, after={**each.after, "head": values["head"]}) for each in REPORTS]
    assert "constraints are violated: head" in failed(broken)


def test_one_rank_has_nothing_to_compare():
    """With one rank the per-rank claim is neither kept nor broken; the others are checked."""
    alone = replace(report(0), counted=10, reduced=report(0).own)
    found = [claim.holds for claim in checks.claims(SPECS, [alone])]
    assert found == [True, None, *[True] * 5]
