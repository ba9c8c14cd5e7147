"""Each of the demo's claims holds where it should, and fails where it should."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from torchcreator._cli.demo import checks
from torchcreator._cli.demo.messages import Gradient, Report

NAN = float("nan")


def gradients(rank):
    """Give the gradients of two ranks whose own are 1 and 2, reduced as declared."""
    own = [rank + 1.0]
    return {
        "gain": Gradient("sum", own, [3.0]),
        "head": Gradient("none", own, [1.5]),
        "slope": Gradient("only_first_replica", own, [1.0]),
        "expert": Gradient("none", own, own),
    }


def report(rank):
    return Report(
        replicated={"gain": "aa", "head": "bb"},
        per_rank={"expert": f"{rank}"},
        frozen={"lift": True},
        overshoot={"head": 0.0},
        longest_rows={"head": 1.0},
        gradients=gradients(rank),
        counted=30,
        fed=10 + 10 * rank,
        accuracy=0.95 - 0.01 * rank,
    )


REPORTS = [report(0), report(1)]

FAILURES = {
    "replicated differ": (
        {"replicated": {"gain": "aa", "head": "cc"}},
        "differ between ranks: head",
    ),
    "per-rank equal": ({"per_rank": {"expert": "0"}}, "equal on some ranks: expert"),
    "mean for sum": (
        {"gradients": gradients(1) | {"gain": Gradient("sum", [2.0], [1.5])}},
        "not reduced as declared: gain",
    ),
    "own for first": (
        {"gradients": gradients(1) | {"slope": Gradient("only_first_replica", [2.0], [2.0])}},
        "not reduced as declared: slope",
    ),
    "reduced for own": (
        {"gradients": gradients(1) | {"expert": Gradient("none", [2.0], [1.5])}},
        "not reduced as declared: expert",
    ),
    "no gradient": (
        {"gradients": gradients(1) | {"head": Gradient("none", [2.0], [])}},
        "not reduced as declared: head",
    ),
    "not a number": (
        {"gradients": gradients(1) | {"head": Gradient("none", [2.0], [NAN])}},
        "not reduced as declared: head",
    ),
    "outside the constraint": ({"overshoot": {"head": 0.01}}, "violated: head"),
    "constrained NaN": ({"overshoot": {"head": NAN}}, "violated: head"),
    "frozen moved": ({"frozen": {"lift": False}}, "have changed: lift"),
    "miscounted": ({"counted": 29}, r"the counter reads \[29, 30\], but 30 scans were fed"),
    "inaccurate": ({"accuracy": 0.9}, "accuracy is 90.0%, not above 90%"),
}


def test_all_claims_hold_of_sound_reports():
    """Reports of a sound run pass every claim, each in one line."""
    found = list(checks.claims(REPORTS))
    assert [claim.holds for claim in found] == [True] * 7
    assert not any("\n" in claim.text for claim in found)


@pytest.mark.parametrize(("change", "text"), FAILURES.values(), ids=FAILURES)
def test_one_wrong_rank_fails_one_claim(change, text):
    """What is wrong on the last rank alone fails the claim about it, by name, and no other."""
    found = list(checks.claims([REPORTS[0], replace(REPORTS[1], **change)]))
    failed = [claim.text for claim in found if claim.holds is False]
    assert len(failed) == 1
    assert re.search(text, failed[0])


def test_one_rank_has_nothing_to_compare():
    """With one rank the per-rank claim is neither kept nor broken; the others are checked."""
    alone = replace(
        report(0),
        counted=10,
        gradients={"gain": Gradient("sum", [1.0], [1.0]), "head": Gradient("none", [1.0], [1.0])},
    )
    assert [claim.holds for claim in checks.claims([alone])] == [True, None, *[True] * 5]
