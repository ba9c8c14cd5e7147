"""Rows of parts for threads, which help each other at the end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from torchcreator._recorder.parts import _Rows


def test_a_row_each():
    """Each thread has parts that follow each other, in their order."""
    rows = _Rows([[0, 1], [2], [3], [4, 5], [6]], 2)
    assert [list(next(rows.of(number))) for number in (0, 1)] == [[0, 1, 2], [3, 4, 5, 6]]


def test_who_is_done_takes_half_of_the_rest():
    """It takes the end, so that both go on with what follows each other."""
    rows = _Rows([[n] for n in range(10)], 2)
    slow, quick = rows.of(0), rows.of(1)
    own = next(slow)
    assert next(own) == 0
    assert [list(next(quick)) for _ in range(3)] == [[5, 6, 7, 8, 9], [3, 4], [2]]
    assert list(own) == [1]
    assert [*chain.from_iterable(quick), *chain.from_iterable(slow)] == []


def test_fewer_parts_than_threads():
    """Threads without a part of their own take what there is, once."""
    for parts in ([[]], [[0]], [[0], [1]]):
        rows = _Rows(parts, 5)
        found = [n for number in range(5) for run in rows.of(number) for n in run]
        assert sorted(found) == [n for part in parts for n in part]


def test_every_piece_is_made_once():
    """However threads meet at a row, none makes what another one does."""
    with _Rows([[n, n + 1] for n in range(0, 20_000, 2)], 8) as rows, ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda number: [*chain.from_iterable(rows.of(number))], range(8))
        assert sorted(chain.from_iterable(found)) == list(range(20_000))


def test_a_failure_ends_all_rows():
    """Nobody goes on with what is left when the rows are closed."""
    with _Rows([[n] for n in range(10)], 2) as rows:
        own = next(rows.of(0))
        assert next(own) == 0
    assert list(own) == []
    assert list(chain.from_iterable(rows.of(1))) == []
