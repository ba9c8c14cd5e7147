"""Repeated blocks of a model: lines that say the same of ``layers.0`` to ``layers.79`` are one."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

LEAST = 3
"""As many blocks are worth folding."""


class Fold(NamedTuple):
    """One line: its name, and the positions of what it stands for."""

    name: str
    at: list[int]


def folded(paths: Sequence[str], facts: Sequence[Hashable]) -> list[Fold]:
    """Return what is left of a list where siblings with consecutive numbers are alike.

    Blocks are alike where everything below them has the same paths and the same facts.

    Args:
        paths: Dotted names, each once.
        facts: What else a line says of each.

    Example:
        >>> folded(["w", "a.0.w", "a.1.w", "a.2.w", "a.3.w"], [0, 1, 1, 1, 2])
        [Fold(name='w', at=[0]), Fold(name='a.0–2.w', at=[1, 2, 3]), Fold(name='a.3.w', at=[4])]
    """
    root = _Block()
    for position, path in enumerate(paths):
        here = root
        for part in path.split("."):
            here = here.parts.setdefault(part, _Block())
        here.at = position
    numbers: dict[Hashable, int] = {}
    root.measure(facts, numbers)
    return sorted(root.lines(""), key=lambda line: line.at[0])


class _Block:
    """What lies at a path, and below it."""

    def __init__(self) -> None:
        self.at: int | None = None
        self.parts: dict[str, _Block] = {}
        self.kind = 0

    def measure(self, facts: Sequence[Hashable], numbers: dict[Hashable, int]) -> int:
        """Give blocks that are alike the same number."""
        inside = tuple((part, block.measure(facts, numbers)) for part, block in self.parts.items())
        own = None if self.at is None else facts[self.at]
        self.kind = numbers.setdefault((self.at is None, own, inside), len(numbers))
        return self.kind

    def lines(self, path: str) -> Iterator[Fold]:
        if self.at is not None:
            yield Fold(path, [self.at])
        for run in self._runs():
            first, last = run[0], run[-1]
            label = first if len(run) == 1 else f"{first}–{last}"
            inside = f"{path}.{label}" if path else label
            for alike in zip(*(self.parts[part].lines(inside) for part in run), strict=True):
                yield Fold(alike[0].name, [position for line in alike for position in line.at])

    def _runs(self) -> Iterator[list[str]]:
        """Yield parts in order, those that fold together."""
        runs: list[list[str]] = [[part] for part in list(self.parts)[:1]]
        for part, following in pairwise(self.parts):
            if self._continues(part, following):
                runs[-1].append(following)
            else:
                runs.append([following])
        for run in runs:
            yield from [run] if len(run) >= LEAST else [[part] for part in run]

    def _continues(self, part: str, following: str) -> bool:
        counted = part.isdecimal() and following.isdecimal() and int(following) == int(part) + 1
        return counted and self.parts[part].kind == self.parts[following].kind
