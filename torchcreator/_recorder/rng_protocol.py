"""What gives a recorded construction its random numbers, as its users see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch

from torchcreator._recorder.op_schema import Traits
from torchcreator._recorder.rng_draw import Draw


class Draws(Protocol):
    """What gives a recorded construction its random numbers.

    `ProgramOrder` gives every draw the generator's state that it had in the plain constructor.
    `Streams` gives every draw a generator of its own, seeded from names, so that draws may be
    skipped, reordered and run in several threads.

    Attributes:
        ordered: Whether a draw goes on from where the one before it ended.
    """

    ordered: bool

    def noted(self, number: int, device: torch.device, explicit: torch.Generator | None) -> None:
        """Learn that operation ``number`` draws on ``device``; called while recording."""
        ...

    def now(
        self,
        device: torch.device,
        func: Callable[..., Any],
        traits: Traits,
        args: Any,
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a draw on real tensors, which cannot wait, at its place in the program."""
        ...

    def seen(self, numbers: Iterable[int]) -> None:
        """Learn that Python is about to see what these operations draw."""
        ...

    def asked(self, numbers: Iterable[int]) -> None:
        """Learn that Python is about to ask yes or no of what these operations draw."""
        ...

    def answered(self, question: int, answer: bool) -> None:
        """Learn the answer of operation ``question``, by which the constructor goes on."""
        ...

    def recorded(self, parameters: Mapping[str, int], others: Mapping[str, int]) -> None:
        """Learn that the constructor is through.

        Args:
            parameters: The storage that each parameter lives in, by full name.
            others: The same for buffers and attributes.
        """
        ...

    def put_back(self) -> None:
        """Leave the default generators as they were found, but for what others drew."""
        ...

    def run(self, number: int, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run operation ``number`` with the random numbers that are its own."""
        ...

    def piece(self, number: int, draw: Draw, first: int, target: torch.Tensor) -> None:
        """Draw what ``target`` holds of operation ``number``, from its element ``first`` on."""
        ...

    def known(self, number: int) -> Draw | None:
        """Return what an operation draws, None where it cannot be drawn in pieces."""
        ...

    def base(self, number: int) -> object:
        """Return what an operation's place is counted from: those of one base need no other."""
        ...

    def reach(self, base: Any) -> None:
        """Run what has to be run before what is counted from ``base`` can be."""
        ...

    def agrees(self) -> bool:
        """Return whether this thread has drawn what was reckoned."""
        ...

    def restart(self) -> None:
        """Forget what was drawn where it was not what was reckoned."""
        ...

    def finish(self) -> None:
        """Leave the default generators as the plain constructor would have left them.

        Those that were put back and used since are left alone.
        """
        ...
