"""The rows on starting one rank of many are measured, each in a process of its own."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from benchmarks._start import Row, in_status, measured, ours, report, rows, whole
from benchmarks._start_models import Embedded
from benchmarks._start_others import fsdp2

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
SMALL = partial(Embedded, 256, 8)


@pytest.mark.parametrize(
    ("start", "phases"),
    [
        pytest.param(partial(whole, SMALL), ["draw"], id="whole"),
        pytest.param(partial(ours, SMALL, 0), ["record", "shard", "draw"], id="ours"),
        pytest.param(partial(fsdp2, SMALL), ["record", "shard", "draw"], id="FSDP2's own"),
    ],
)
def test_a_row(start, phases):
    """Each phase has a time, and one rank of 64 has a 64th."""
    found = measured(Row("a row", 64, start, whole=partial(whole, SMALL)))
    assert found is not None
    taken, constructed, peak, shards = found
    assert list(taken) == phases
    assert all(seconds >= 0 for seconds in taken.values())
    assert constructed is not None
    assert constructed > 0
    elements = 256 * 128 + 8 * 8 + 8
    expected = elements if phases == ["draw"] else 4 * 128
    assert shards == expected * 4 / 2**20
    assert peak >= 0


def test_a_row_that_fails():
    """A process that ends without an answer is told, and is not waited for."""

    def fails():
        raise MemoryError

    assert measured(Row("fails", 2, fails)) is None


def test_what_is_not_compared():
    """A row without the whole to compare with has no time of it."""
    found = measured(Row("a row", 2, partial(whole, SMALL)))
    assert found is not None
    assert found.whole is None


def test_rows_are_chosen_by_title_and_ranks(capsys):
    """What does not have the text is not measured, and no file is written for it."""
    report(quick=True, chosen="seeded, 64")
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in printed[2:]] == ["| `materialize`, seeded"]
    assert printed[0].count("|") == printed[1].count("|") == printed[2].count("|")


def test_what_needs_more_memory_than_there_is_says_so():
    """Rows of models that are too large for some machines name what they need."""
    large = [row for row in rows("nowhere", quick=False) if "DeepSeek" in row.title]
    assert {row.ranks for row in large} == {64, 1024, 4096}
    assert all(row.needs > 1024 for row in large)
    assert in_status("VmRSS") > 1
    assert isinstance(SMALL(), nn.Module)
    assert torch.is_tensor(SMALL().embed.weight)
