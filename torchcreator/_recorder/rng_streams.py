"""Seeded draws: each has a stream of random numbers of its own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from torchcreator._recorder.rng import Explicit, default_generator, with_generator
from torchcreator._recorder.tape import Tape


class _Generators(threading.local):
    """A generator per device, for one thread: making one costs as much as a small draw."""

    def __init__(self) -> None:
        self._made: dict[torch.device, torch.Generator] = {}

    def on(self, device: torch.device) -> torch.Generator:
        """Return this thread's generator on a device."""
        generator = self._made.get(device)
        if generator is None:
            generator = self._made[device] = torch.Generator(device)
        return generator


class Streams:
    """Draws whose numbers depend on (seed, name of the first parameter that needs them, number).

    The first parameter is the first by name, and the number counts the draws that it depends on.
    So a value is the same whatever else is skipped, reordered, sharded or run at the same time. A
    draw that Python saw while the constructor ran keeps the value that it saw.
    """

    independent = True

    def __init__(self, tape: Tape, seed: int) -> None:
        self._tape = tape
        self._seed = seed
        self._explicit = Explicit(tape)
        self._seeds: dict[int, int] = {}
        self._used: set[int] = set()
        self._eager = 0
        self._found: dict[torch.device, torch.Tensor] = {}
        self._default = threading.RLock()  # a draw without `generator=` borrows the default one
        self._generators = _Generators()
        self._keep(torch.device("cpu"))

    def noted(self, number: int, device: torch.device, explicit: torch.Generator | None) -> None:
        """Learn that operation ``number`` draws on ``device``."""
        self._keep(device)
        if explicit is not None:
            self._explicit.noted(number, explicit, self)

    def now(self, device: torch.device, function: Callable[..., Any]) -> Any:
        """Run ``function`` with the default generator in a stream of its own."""
        self._eager += 1
        generator = default_generator(device)
        with self._default:
            before = generator.get_state()
            try:
                generator.manual_seed(self._hash("at once", self._eager))
                return function()
            finally:
                generator.set_state(before)

    def seen(self, numbers: Iterable[int]) -> None:
        """Freeze these draws as they are about to be seen: no name is known yet."""
        for number in numbers:
            self._assign(number, "seen", number)

    def recorded(self, parameters: Mapping[str, int], others: Mapping[str, int]) -> None:
        """Give each draw the name of the first parameter that depends on it."""
        for device, state in self._found.items():  # the constructor may have seeded them
            default_generator(device).set_state(state)
        ops, seeds = self._tape.ops, self._seeds
        for storages in (parameters, others):
            for name in sorted(storages):
                position = 0
                for number in self._tape.slice([storages[name]]):
                    if ops[number].traits.draws:
                        if number not in seeds:
                            seeds[number] = self._hash(name, position)
                        position += 1

    def run(self, number: int, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run a draw in its own stream."""
        if number in self._explicit:
            return self._explicit.run(number, args, kwargs)
        op = self._tape.ops[number]
        generator = self._generators.on(self._tape.device(op.writes[0]))
        generator.manual_seed(self._assign(number, "unnamed", number))
        if op.traits.seeded is not None:
            return op.traits.seeded(*args, **{**kwargs, "generator": generator})
        with self._default:
            return with_generator(op, args, kwargs, generator)

    def finish(self, *, unless_moved: bool = False) -> None:
        """Do nothing: the default generators were left alone."""

    def _keep(self, device: torch.device) -> None:
        if device not in self._found:
            self._found[device] = default_generator(device).get_state()

    def _assign(self, number: int, name: str, position: int) -> int:
        if number not in self._seeds:
            self._seeds[number] = self._hash(name, position)
        return self._seeds[number]

    def _hash(self, name: str, position: int) -> int:
        """Return a seed for a stream, another than all before it.

        The CPU generator looks at 32 bits of a seed, few enough to meet among 10,000 draws.
        """
        for attempt in range(1 << 32):
            text = repr((self._seed, name, position, attempt)).encode()
            seed = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
            if seed & 0xFFFFFFFF not in self._used:
                break
        self._used.add(seed & 0xFFFFFFFF)
        return seed
