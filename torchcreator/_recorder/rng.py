"""Where the random numbers of a replay come from: what the two ways to draw share."""

from __future__ import annotations

from typing import Any

import torch

from torchcreator._recorder.replay import Draws, arguments, contents
from torchcreator._recorder.tape import Op, Tape
from torchcreator._torch.dispatch import no_function_modes
from torchcreator._torch.tensors import same_generator


class Explicit:
    """The draws that a constructor made from generators of its own: the same in both ways.

    The generator moves on while the constructor runs, so each such draw is run once at its place,
    into memory that is thrown away, and again from the generator's state when its value is wanted.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._states: dict[int, tuple[torch.device, torch.Tensor]] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._states

    def noted(self, number: int, generator: torch.Generator, draws: Draws) -> None:
        """Keep the generator's state before operation ``number``, and move it on."""
        self._states[number] = generator.device, generator.get_state()
        args, kwargs = scratch_arguments(self._tape, number, draws)
        with torch.no_grad(), no_function_modes():
            with_generator(self._tape.ops[number], args, kwargs, generator)

    def run(self, number: int, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run operation ``number`` from its generator's state."""
        device, state = self._states[number]
        generator = torch.Generator(device)
        generator.set_state(state)
        return with_generator(self._tape.ops[number], args, kwargs, generator)


def scratch_arguments(
    tape: Tape, number: int, draws: Draws, scratch: torch.UntypedStorage | None = None
) -> tuple[list[Any], dict[str, Any]]:
    """Return real arguments for running a draw only for what it does to its generator.

    Args:
        tape: The tape that the operation is on.
        number: The operation's number.
        draws: Where the arguments' own random numbers come from.
        scratch: Memory for an operation that fills its first argument.
    """
    op = tape.ops[number]
    environment = contents(tape, op.reads, draws, before=number) if op.reads else {}
    if op.traits.fills and scratch is not None:
        environment[op.args[0].storage] = scratch
    return arguments(tape, number, environment)


def default_generator(device: torch.device) -> torch.Generator:
    """Return the default generator of a device."""
    if device.type == "cpu":
        return torch.default_generator
    module = torch.get_device_module(device)
    current = module.current_device()  # starts the device: it has no generators before
    index = current if device.index is None else device.index
    generator: torch.Generator = module.default_generators[index]
    return generator


def is_default(generator: torch.Generator | None) -> bool:
    """Return whether a draw with ``generator=generator`` uses the default one."""
    if generator is None:
        return True
    return same_generator(generator, default_generator(generator.device))


def with_generator(
    op: Op, args: list[Any], kwargs: dict[str, Any], generator: torch.Generator
) -> Any:
    """Run a draw with a generator, or with the default one in that one's state."""
    if op.traits.seeded is not None:
        return op.traits.seeded(*args, **{**kwargs, "generator": generator})
    default = default_generator(generator.device)
    before = default.get_state()
    try:
        default.set_state(generator.get_state())
        result = op.func(*args, **kwargs)
        generator.set_state(default.get_state())
        return result
    finally:
        default.set_state(before)
