"""Draws that a constructor looked at: they may have other numbers that give it the same answers.

The name of what a draw fills is not known yet when it is looked at. When it is, numbers are drawn
from the stream of that name, again and again, until all that the constructor asked of them is
answered as it was: then it would have gone the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from torchcreator._recorder.rng import scratch_arguments
from torchcreator._recorder.rng_protocol import Draws
from torchcreator._recorder.tape import Tape
from torchcreator._torch.dispatch import no_function_modes

_TRIES = 200
Named = Mapping[int, tuple[str, int]]
"""The name that each draw has its numbers by, and which of that name's draws it is."""


class Looks:
    """What a constructor was told about draws before they had names.

    Args:
        tape: The tape.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._answers: list[tuple[int, bool, frozenset[int]]] = []

    def note(self, question: int, answer: bool) -> None:
        """Remember what operation ``question`` answered."""
        op = self._tape.ops[question]
        numbers = self._tape.slice(op.reads, before=question)
        drawn = frozenset(number for number in numbers if self._tape.ops[number].traits.draws)
        if drawn:
            self._answers.append((question, answer, drawn))

    def rename(
        self,
        draws: Draws,
        named: Named,
        seeds: dict[int, int],
        seed_of: Callable[[str, int], int],
    ) -> None:
        """Give each draw that was looked at, and has a name, a seed by it that changes no answer.

        Args:
            draws: What runs them.
            named: The draws that may get other numbers.
            seeds: The seed of each draw; changed.
            seed_of: Makes one of a name and a number.
        """
        for questions, drawn in self._groups():
            movable = sorted(drawn & named.keys())
            before = {number: seeds[number] for number in movable}
            for attempt in range(_TRIES if movable else 0):
                for number in movable:
                    name, position = named[number]
                    seeds[number] = seed_of(f"{attempt} {name}", position)
                if all(self._holds(draws, question, answer) for question, answer in questions):
                    break
            else:
                seeds.update(before)

    def _groups(self) -> list[tuple[list[tuple[int, bool]], frozenset[int]]]:
        """Return the answers that depend on common draws together, with those draws."""
        groups: list[tuple[list[tuple[int, bool]], frozenset[int]]] = []
        for question, answer, drawn in self._answers:
            common = [group for group in groups if group[1] & drawn]
            groups = [group for group in groups if not group[1] & drawn]
            asked = [pair for pairs, _ in common for pair in pairs]
            merged = drawn.union(*(numbers for _, numbers in common))
            groups.append(([*asked, (question, answer)], merged))
        return groups

    def _holds(self, draws: Draws, question: int, answer: bool) -> bool:
        op = self._tape.ops[question]
        with torch.no_grad(), no_function_modes():
            args, kwargs = scratch_arguments(self._tape, question, draws)
            return op.func(*args, **kwargs) is answer
