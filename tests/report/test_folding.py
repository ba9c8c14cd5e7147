"""Repeated blocks are one line, and only blocks that are alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import torchcreator as tc
from torchcreator.report._folding import folded

LISTS = {
    "all alike": (["0.w", "1.w", "2.w"], "www", ["0–2.w"]),
    "two are not worth it": (["0.w", "1.w"], "ww", ["0.w", "1.w"]),
    "one differs": (["0.w", "1.w", "2.w", "3.w"], "wwwx", ["0–2.w", "3.w"]),
    "a gap": (["0.w", "2.w", "4.w"], "www", ["0.w", "2.w", "4.w"]),
    "names": (["a.w", "b.w", "c.w"], "www", ["a.w", "b.w", "c.w"]),
    "another path inside": (["0.w", "1.w", "2.v"], "www", ["0.w", "1.w", "2.v"]),
    "a list of parameters": (["p.0", "p.1", "p.2"], "www", ["p.0–2"]),
    "a second run": ([f"{n}.w" for n in range(6)], "wwwxxx", ["0–2.w", "3–5.w"]),
    "the order stays": (["0.w", "0.b", "1.w", "1.b", "2.w", "2.b", "h"], "wbwbwbh",
                        ["0–2.w", "0–2.b", "h"]),
}  # fmt: skip


@pytest.mark.parametrize(("paths", "facts", "names"), LISTS.values(), ids=LISTS)
def test_siblings_that_are_alike_are_one(paths, facts, names):
    """Three or more consecutive numbers fold, where all below them is the same."""
    assert [line.name for line in folded(paths, facts)] == names


def test_blocks_in_blocks_fold():
    """Experts within layers are one line, and all of them are in it."""
    paths = [f"layers.{n}.experts.{m}.w" for n in range(5) for m in range(4)]
    (line,) = folded(paths, [0] * 20)
    assert line == ("layers.0–4.experts.0–3.w", list(range(20)))


paths = st.lists(st.sampled_from("0123ab"), min_size=1, max_size=4).map(".".join)


@given(st.dictionaries(paths, st.sampled_from("wx"), max_size=30))
def test_nothing_is_lost(variables):
    """Every position is in one line, and those of a line say the same."""
    facts = list(variables.values())
    lines = folded(list(variables), facts)
    assert sorted(position for line in lines for position in line.at) == list(range(len(facts)))
    assert all(len({facts[position] for position in line.at}) == 1 for line in lines)
    assert [line.at[0] for line in lines] == sorted(line.at[0] for line in lines)


def test_blocks_fold_where_all_that_is_shown_is_the_same():
    """A layer that a creator froze is not folded with those that it left."""

    def model():
        return nn.ModuleList(nn.Linear(2, 2) for _ in range(8))

    with tc.creator_scope(tc.creators.freeze(name="3.*")):
        text = str(tc.inspect(model))
    names = [line.split()[0] for line in text.partition("\n\n")[0].splitlines()]
    assert names == [
        *("name", "0–2.weight", "0–2.bias", "3.weight", "3.bias", "4–7.weight", "4–7.bias")
    ]
    assert text.splitlines()[1].split()[1:6] == ["3", "×", "2x2", "float32", "cpu"]
    assert "0–7" in text.partition("by module")[2]  # as large as each other
