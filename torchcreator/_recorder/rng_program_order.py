"""Exact draws: every one sees the generator's state that it had in the plain constructor."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from torchcreator._recorder.replay import ReplayError
from torchcreator._recorder.rng import Explicit, default_generator, scratch_arguments
from torchcreator._recorder.tape import Op, Tape
from torchcreator._torch.dispatch import no_function_modes


class _Generator:
    """A default generator while a constructor is recorded.

    After each recorded draw it is seeded with a number never used before, a *token*. Its seed at
    the next draw then tells what the constructor did in between: the same token, nothing; an older
    token, it put back a state that it had saved; anything else, it seeded the generator.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.found = generator.get_state()
        self.last: int | torch.Tensor = self.found
        self.tokens: dict[int, int] = {}
        self._next = random.SystemRandom().getrandbits(62)

    def origin(self) -> int | torch.Tensor:
        """Return the draw after which the generator now stands, or its state if there is none."""
        after = self.tokens.get(self.generator.initial_seed())
        return self.generator.get_state() if after is None else after

    def drawn(self, number: int) -> None:
        """Mark the generator as standing after draw ``number``."""
        self._next += 1
        self.tokens[self._next] = number
        self.generator.manual_seed(self._next)


class ProgramOrder:
    """Draws as the plain constructor made them, whatever order they are asked for in.

    A draw needs the state after the one before it. States that were passed once are kept (5 kB
    each on CPU), so any value can be asked for again, and later ones first.
    """

    independent = False

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._explicit = Explicit(tape)
        self._generators: dict[torch.device, _Generator] = {}
        self._origins: dict[int, tuple[_Generator, int | torch.Tensor]] = {}
        self._after: dict[int, torch.Tensor] = {}
        self._scratch: torch.UntypedStorage | None = None
        self._borrowed: torch.UntypedStorage | None = None
        self._of(torch.device("cpu"))

    def noted(self, number: int, device: torch.device, explicit: torch.Generator | None) -> None:
        """Learn that operation ``number`` draws on ``device``."""
        if explicit is not None:
            self._explicit.noted(number, explicit, self)
            return
        generator = self._of(device)
        self._origins[number] = generator, generator.origin()
        generator.drawn(number)

    def now(self, device: torch.device, function: Callable[..., Any]) -> Any:
        """Make all that was recorded so far draw first, then run ``function``."""
        generator = self._of(device)
        generator.generator.set_state(self._state_at(generator.origin()))
        return function()

    def seen(self, numbers: Iterable[int]) -> None:
        """Do nothing: a draw has one value here, whoever sees it."""

    def recorded(self, parameters: Mapping[str, int], others: Mapping[str, int]) -> None:
        """Put the default generators back as they were found; names play no part."""
        for generator in self._generators.values():
            generator.last = generator.origin()
            generator.generator.set_state(generator.found)

    def run(self, number: int, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run a draw in the state that it had, leaving the generator as it is."""
        if number in self._explicit:
            return self._explicit.run(number, args, kwargs)
        op = self._tape.ops[number]
        if op.traits.fills and op.whole:  # until filled it serves the draws before it as scratch
            self._borrowed = args[0].untyped_storage()
        self._state_at(self._origins[number][1])
        self._borrowed = self._scratch = None
        return self._draw(number, op, args, kwargs)

    def finish(self, *, unless_moved: bool = False) -> None:
        """Leave the generators where the plain constructor would have left them."""
        for generator in self._generators.values():
            moved = not torch.equal(generator.generator.get_state(), generator.found)
            if not (moved and unless_moved):
                generator.generator.set_state(self._state_at(generator.last))
        self._scratch = None

    def _of(self, device: torch.device) -> _Generator:
        found = self._generators.get(device)
        if found is None:
            found = self._generators[device] = _Generator(default_generator(device))
        return found

    def _state_at(self, origin: int | torch.Tensor) -> torch.Tensor:
        return self._state_after(origin) if isinstance(origin, int) else origin

    def _state_after(self, number: int) -> torch.Tensor:
        missing: list[int] = []
        origin: int | torch.Tensor = number
        while isinstance(origin, int) and origin not in self._after:
            missing.append(origin)
            _, origin = self._origins[origin]
        for passed in reversed(missing):
            if passed not in self._after:  # its arguments' own draws may have passed it
                self._pass(passed)
        return self._after[number]

    def _pass(self, number: int) -> None:
        """Run a draw only for what it does to the generator."""
        op = self._tape.ops[number]
        scratch = self._memory(op.args[0].storage) if op.traits.fills else None
        args, kwargs = scratch_arguments(self._tape, number, self, scratch)
        with torch.no_grad(), no_function_modes():
            try:
                self._draw(number, op, args, kwargs)
            except ReplayError:
                raise
            except Exception as error:
                raise ReplayError(op) from error

    def _draw(self, number: int, op: Op, args: list[Any], kwargs: dict[str, Any]) -> Any:
        line, origin = self._origins[number]
        generator, before = line.generator, line.generator.get_state()
        try:
            generator.set_state(self._state_at(origin))
            result = op.func(*args, **kwargs)
            self._after[number] = generator.get_state()
        finally:
            generator.set_state(before)
        return result

    def _memory(self, storage: int) -> torch.UntypedStorage:
        """Return memory for a draw that nobody wants, the same again where it is large enough."""
        nbytes, device = self._tape.nbytes(storage), self._tape.device(storage)
        for memory in (self._borrowed, self._scratch):
            if memory is not None and memory.nbytes() >= nbytes and memory.device == device:
                return memory
        self._scratch = None  # let go of the old before the new is taken
        self._scratch = torch.UntypedStorage(nbytes, device=device)
        return self._scratch
