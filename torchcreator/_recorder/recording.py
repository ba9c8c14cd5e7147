"""Run a factory under the recorder, and keep what it takes to give its tensors their values."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

from torchcreator._call_site import raised_at
from torchcreator._errors import BuildError, TorchCreatorError, VariableTypeError, called, shown
from torchcreator._recorder.box_replay import region_of
from torchcreator._recorder.boxes import Region
from torchcreator._recorder.complaints import failed, not_initialised
from torchcreator._recorder.dispatch_mode import Keeps, Recorder, keep_nothing
from torchcreator._recorder.function_mode import Disguise
from torchcreator._recorder.live_tensors import (
    Handed,
    Object,
    Objects,
    Opaque,
    all_objects,
    named_tensors,
    replace,
)
from torchcreator._recorder.parts import regions, values
from torchcreator._recorder.replay import (
    Environment,
    ReplayError,
    bytes_of,
    filled,
    replay,
    view,
)
from torchcreator._recorder.rng_program_order import ProgramOrder
from torchcreator._recorder.rng_protocol import Draws
from torchcreator._recorder.rng_streams import Streams
from torchcreator._recorder.tape import Op, Ref, Tape
from torchcreator._recorder.tape_writer import Log
from torchcreator._torch.dispatch import dispatch_modes, no_function_modes
from torchcreator._torch.fakes import is_fake_mode
from torchcreator._torch.tensors import is_plain_meta

Model = TypeVar("Model", bound=nn.Module)


class Recording(Opaque):
    """A model on meta, and the tape that its values come from.

    Attributes:
        tape: What the constructor did.
        draws: Where its random numbers come from.
        names: The first full name of what looks at each storage, a parameter's if there is one.
        refs: What each full name of a tensor looks at.
        handed: The tensors that the constructor was given, and may keep anywhere.
        initialised: The storages that must not hold memory which nobody initialised.
        original: The model itself, where it was deferred.
    """

    def __init__(self, tape: Tape, draws: Draws, handed: Handed) -> None:
        self.tape = tape
        self.draws = draws
        self.handed = handed
        self.names: dict[int, str] = {}
        self.refs: dict[str, Ref] = {}
        self.initialised: set[int] = set()
        self.original: weakref.ref[nn.Module] | None = None

    def name(self, model: nn.Module, log: Log) -> Objects:
        """Learn which storage each parameter, buffer and attribute of the model lives in.

        Returns:
            These tensors, by storage.
        """
        parameters: dict[str, int] = {}
        others: dict[str, int] = {}
        found: Objects = {}
        with no_function_modes():
            for name, tensor, _ in named_tensors(model):
                storage = log.known(tensor)
                if storage is None:
                    if not (is_plain_meta(tensor) and log.knows(tensor)):
                        continue
                    storage = self.tape.ref(tensor).storage
                ref = self.refs[name] = self.tape.ref_at(storage, tensor)
                (parameters if isinstance(tensor, nn.Parameter) else others)[name] = storage
                if storage not in found:  # nearly always
                    self.names[storage] = name
                    found[storage] = [(tensor, ref)]
                elif all(tensor is not other for other, _ in found[storage]):
                    found[storage].append((tensor, ref))
        self.initialised.update(parameters.values())
        self.draws.recorded(parameters, others)
        return found

    def all_objects(self, known: Objects, roots: Iterable[object]) -> Objects:
        """Return every recorded tensor object by its storage, wherever it is held.

        Args:
            known: Those that the model holds.
            roots: What the others are reached from.
        """
        return all_objects(self.tape, known, self.handed, roots)

    def storage_of(self, tensor: torch.Tensor) -> int | None:
        """Return the storage that a tensor looks at, or None if it is not a recorded one."""
        if not tensor.is_meta:  # the attribute that even a lazy parameter answers
            return None
        with no_function_modes():
            return self.tape.find(tensor) if is_plain_meta(tensor) else None

    def device_of(self, tensor: torch.Tensor) -> torch.device:
        """Return where the constructor asked for a tensor, recorded or not."""
        storage = self.storage_of(tensor)
        return tensor.device if storage is None else self.tape.device(storage)

    def contents(self, storage: int) -> torch.UntypedStorage:
        """Return what a storage holds at the end, in memory of its own.

        Raises:
            BuildError: It cannot be replayed, or part of a parameter was never initialised.
        """
        numbers = self.tape.slice([storage])
        memory = self._replay(numbers, storage)
        if storage in self.initialised:
            empty = next((op for n in numbers if (op := self.tape.ops[n]).traits.empty), None)
            if empty is not None and memory.nbytes():
                self._check_initialised(numbers, storage, memory, empty)
        return memory

    def found(self, storage: int) -> torch.UntypedStorage:
        """Return the same, whatever the constructor left uninitialised."""
        return self._replay(self.tape.slice([storage]), storage)

    def value(self, ref: Ref) -> torch.Tensor:
        """Return the value of a recorded tensor at the end, in memory of its own."""
        with torch.no_grad(), no_function_modes():
            ((_, value),) = self.values_here([ref])
            return value

    def part(self, ref: Ref, region: Region) -> torch.Tensor:
        """Return a region of a recorded tensor's value at the end, in memory of its own.

        Raises:
            BuildError: It cannot be replayed, or part of a parameter was never initialised.
        """
        with torch.no_grad(), no_function_modes():
            try:
                value, empty = region_of(self.tape, self.draws, ref, region)
            except ReplayError as error:
                raise self._failed(ref.storage, error) from error.__cause__
        if empty is not None and ref.storage in self.initialised:
            raise not_initialised(self.label(ref.storage), empty)
        return value

    def parts(self, wished: Sequence[tuple[Ref, Region]]) -> Iterator[torch.Tensor]:
        """Yield parts of recorded tensors as `part` makes them, in their order, in threads."""
        try:
            yield from regions(self.tape, self.draws, wished, self.part)
        except ReplayError as error:
            raise self._failed(error.op.writes[0], error) from error.__cause__

    def values_here(self, refs: list[Ref]) -> Iterator[tuple[Ref, torch.Tensor]]:
        """Yield each tensor's value, several made at a time, in any order.

        To be called without grad mode and function modes.
        """
        try:
            yield from values(self.tape, self.draws, refs, self._value)
        except ReplayError as error:
            raise self._failed(error.op.writes[0], error) from error.__cause__

    def _value(self, ref: Ref) -> torch.Tensor:
        try:
            value = filled(self.tape, ref, self.draws)
        except ReplayError as error:
            raise self._failed(ref.storage, error) from error.__cause__
        return self.view(ref, self.contents(ref.storage)) if value is None else value

    def view(self, ref: Ref, memory: torch.UntypedStorage) -> torch.Tensor:
        """Return the tensor that ``ref`` describes on the contents of its storage."""
        with torch.no_grad(), no_function_modes():
            return view(self.tape, ref, {ref.storage: memory})

    def label(self, storage: int) -> str:
        """Return the name of what lives in a storage, for error messages."""
        return self.names.get(storage, "a tensor that is neither parameter nor buffer")

    def _replay(self, numbers: list[int], storage: int, blank: int = 0) -> torch.UntypedStorage:
        try:
            environment: Environment = replay(
                self.tape, numbers, [storage], self.draws, blank=blank
            )
        except ReplayError as error:
            raise self._failed(storage, error) from error.__cause__
        return environment[storage]

    def _failed(self, storage: int, error: ReplayError) -> BuildError:
        return error.told(repr(self.label(storage)))

    def _check_initialised(
        self, numbers: list[int], storage: int, memory: torch.UntypedStorage, empty: Op
    ) -> None:
        """Replay again on memory that holds other bytes: whatever differs was never initialised."""
        other = self._replay(numbers, storage, blank=0xFF)
        if memory.device.type != "meta" and not torch.equal(bytes_of(memory), bytes_of(other)):
            raise not_initialised(self.label(storage), empty)


def share(recording: Recording, tensors: list[Object], memory: torch.UntypedStorage) -> None:
    """Let tensor objects of one storage look at ``memory``, each as it looked at the storage.

    To be called without grad mode.
    """
    for tensor, ref in tensors:
        with torch.inference_mode() if tensor.is_inference() else nullcontext():
            replace(tensor, recording.view(ref, memory))


def record(
    factory: Callable[..., Model],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    device: torch.device | None,
    seed: int | None,
    find: bool,
    around: AbstractContextManager[object] = nullcontext(),  # noqa: B008 - it has no state
    keeps: Keeps = keep_nothing,
) -> tuple[Model, Recording, Objects]:
    """Run ``factory`` under the recorder.

    Args:
        factory: What constructs the model.
        args: Its arguments.
        kwargs: Its keyword arguments.
        device: The default device while it runs; None leaves the choice to the constructor.
        seed: The seed of the streams; None draws as the plain constructor does.
        find: Whether to look for tensor objects that the model does not hold.
        around: What surrounds the factory.
        keeps: Returns whether a write to a tensor would be dropped if it were asked for now.

    Returns:
        The model on meta, the recording, and, where ``find``, every recorded tensor object by its
        storage.
    """
    if not callable(factory):
        raise VariableTypeError(
            f"The factory of the model is {shown(factory)}.",
            "It is called to construct the model, while that is recorded.",
            "Pass a module's class, or a function that returns a module, and its arguments.",
        )
    tape = Tape()
    draws: Draws = ProgramOrder(tape, device) if seed is None else Streams(tape, seed, device)
    log = Log(tape, draws)
    recorder = Recorder(log, keeps)
    disguise = Disguise(recorder)
    recording = Recording(tape, draws, disguise.handed)
    try:
        with around, ExitStack() as modes:
            modes.enter_context(disguise)
            modes.enter_context(recorder)
            # Else these two, and all they hold, would wait for the collector.
            modes.callback(setattr, recorder, "disguise", nullcontext())
            if device is not None:
                modes.enter_context(device)
            model = factory(*args, **kwargs)
        if not isinstance(model, nn.Module):  # whatever its annotation says
            raise _not_a_module(factory, model)
        known = recording.name(model, log)
    except BaseException as error:
        draws.put_back()
        if isinstance(error, TorchCreatorError) or not _OF_MEMORY.search(str(error)):
            raise
        raise failed(error, f"{called(factory)} is recorded", raised_at(error)) from error
    if find:
        return model, recording, recording.all_objects(known, [model, factory, args, kwargs])
    recording.handed.kept()  # lets go of the others
    return model, recording, {}


_OF_MEMORY = re.compile(r"\b[Mm]eta\b|not allocated|INTERNAL ASSERT|Cannot access storage")
"""What torch's errors say that have to do with tensors without memory."""


def _not_a_module(factory: Callable[..., Any], made: object) -> VariableTypeError:
    return VariableTypeError(
        f"{called(factory)!r} returned {shown(made)}.",
        "A factory returns one torch.nn.Module, whose parameters are then made.",
        "Return the model; put several models into one nn.ModuleDict.",
    )


def inside_another_recorder() -> bool:
    """Return whether a recorder or a fake mode is at work, whose place this one must not take."""
    return any(isinstance(mode, Recorder) or is_fake_mode(mode) for mode in dispatch_modes())
