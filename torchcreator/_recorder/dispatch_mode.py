"""The recorder: runs a constructor on meta memory and logs what it does to its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from torchcreator._recorder.live_tensors import replace
from torchcreator._recorder.on_values import NeedsValuesError
from torchcreator._recorder.op_schema import Traits, traits_of
from torchcreator._recorder.pytree import META, argument, blank, hollow, mapped, tensors_in
from torchcreator._recorder.tape_writer import Log, default_device
from torchcreator._torch.dispatch import (
    DispatchMode,
    OpOverload,
    autocasts,
    function_modes_active,
    no_function_modes,
    schema_of,
)
from torchcreator._torch.tensors import (
    held_in_torch,
    is_own,
    storage_key,
    viewed,
    viewers,
    with_index,
)

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
_HALVES = frozenset({torch.bfloat16, torch.float16})
Keeps = Callable[[torch.Tensor], bool]


def keep_nothing(tensor: torch.Tensor) -> bool:
    """Return False: every write lands."""
    return False


class Recorder(DispatchMode):
    """Logs every operation on the tensors that a constructor makes, and runs none of them.

    Tensors it makes are on meta and stand for tensors on the device that the constructor asked
    for. Tensors with data (`torch.tensor`, `torch.from_numpy`) stay real; where they meet recorded
    ones, their value of that moment becomes a constant of the tape.

    Attributes:
        log: What is known about recorded tensors.
        honest: Whether the constructor itself is asking for the meta device; set by the disguise.
        keeps: Returns whether a write to a tensor would be dropped if it were asked for now.
        disguise: What answers for recorded tensors.
        autocast: The kinds of device for which autocast is on where the constructor calls torch.
    """

    def __init__(self, log: Log, keeps: Keeps) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.log = log
        self.honest = False
        self.disguise: AbstractContextManager[object] = nullcontext()
        self.keeps = keeps
        self.autocast: frozenset[str] = frozenset()

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: Args = (),
        kwargs: Kwargs | None = None,
    ) -> Any:
        """Log one operation, or run it where it touches no recorded tensor."""
        if types:
            return self._ask(func, types, args, kwargs or {})
        if not function_modes_active():  # the disguise has stepped aside already
            return self._dispatch(func, traits_of(func), args, kwargs or {})
        with no_function_modes():
            return self._dispatch(func, traits_of(func), args, kwargs or {})

    def _ask(self, func: OpOverload, types: Sequence[type], args: Args, kwargs: Kwargs) -> Any:
        """Let classes that make an operation of others do so, and see what they make of it."""
        with self.disguise, self:
            for kind in types:
                result = kind.__torch_dispatch__(func, types, args, kwargs)  # type: ignore[attr-defined]
                if result is not NotImplemented:
                    return result
        return NotImplemented

    def _dispatch(self, func: OpOverload, traits: Traits, args: Args, kwargs: Kwargs) -> Any:
        if traits.makes:
            return self._make(func, traits, args, kwargs)
        if traits.fills and traits.lone and (storage := self.log.known(args[0])) is not None:
            # Not run: nothing about the tensor changes but its content.
            self.log.fill(func, traits, storage, args[0], args[1:], kwargs)
            return args[0]
        tensors = list(tensors_in(args, kwargs))
        if not any(tensor.is_meta and self.log.knows(tensor) for tensor in tensors):
            return self._run(func, traits, args, kwargs, tensors)
        if traits.moves:
            return self._move(func, args, kwargs)
        if traits.fills:
            return self._fill(func, traits, args, kwargs)
        if not (traits.returns_tensors or traits.written):
            return self.log.answer(func, traits, args, kwargs)
        return self._compute(func, traits, args, kwargs, tensors)

    def _make(self, func: OpOverload, traits: Traits, args: Args, kwargs: Kwargs) -> Any:
        """Make a tensor on meta, in place of one on the device asked for."""
        like = args[0] if args and isinstance(args[0], torch.Tensor) else None
        device = self._asked_device(kwargs.get("device"), like)
        if device == META:
            return self.log.keep_on_meta(func(*args, **kwargs))
        if like is not None:  # its shape counts, not its content
            args = (blank(like), *args[1:])
        kwargs = {**kwargs, "device": device}
        if kwargs.get("pin_memory"):  # memory of another kind, which a replay could not make
            return self._run(func, traits, args, kwargs, [])
        try:
            out = func(*args, **_on_meta(kwargs))
        except Exception:  # no meta kernel, or the constructor's own mistake: see what happens
            return self._run(func, traits, args, kwargs, [])
        if not _is_plain(out):
            return self._run(func, traits, args, kwargs, [])
        self.log.made(func, traits, args, kwargs, out, device)
        return out

    def _asked_device(self, asked: Any, like: torch.Tensor | None) -> torch.device:
        """Return the device that a new tensor is to be on.

        torch's own code reads `Tensor.device` below the disguise and asks for meta by mistake.
        """
        if asked is None:
            return torch.device("cpu") if like is None else self.log.device_of(like)
        device = torch.device(asked)
        if device == META and not self.honest:
            return default_device() if like is None else self.log.device_of(like)
        return with_index(device)

    def _run(
        self, func: OpOverload, traits: Traits, args: Args, kwargs: Kwargs, real: list[torch.Tensor]
    ) -> Any:
        """Run an operation that touches no recorded tensor."""
        if any(tensor.is_meta for tensor in real):
            return self.log.keep_on_meta(func(*args, **kwargs))
        if not traits.draws or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        device = real[0].device if real else torch.device(kwargs.get("device") or "cpu")
        return self.log.draws.now(device, func, traits, args, kwargs)

    def _move(self, func: OpOverload, args: Args, kwargs: Kwargs) -> Any:
        """Let a tensor look at other memory; snapshots need not know."""
        source = args[1] if len(args) > 1 else None
        if isinstance(source, torch.UntypedStorage) and source.device != META:  # a file's, say
            args = (args[0], self.log.adopted(source), *args[2:])
        elif isinstance(source, torch.Tensor):
            self._adopt(source)
        if not args[0].is_meta:
            self.log.escape(f"Tensor.{schema_of(func).name.partition('::')[2]}", args[0])
        return func(*args, **kwargs)

    def adopt_alone(self, tensor: torch.Tensor) -> None:
        """Let a tensor of data be a recorded one from now on, if its memory is its own."""
        if not tensor.is_meta and is_own(tensor) and not held_in_torch(tensor):
            self._adopt(tensor)

    def _adopt(self, tensor: torch.Tensor) -> None:
        """Let a tensor of data be a recorded one from now on."""
        if tensor.is_meta:
            return
        base = viewed(tensor)
        alike = [tensor] if base is None else [tensor, base]
        memory = tensor.untyped_storage()
        if (viewers(memory) or 0) > len(alike):
            self.log.escape("Tensor.set_ to memory that yet another tensor looks at", tensor)
        known = self.log.adopted(memory)
        for real in alike:
            alias = torch.empty(0, dtype=real.dtype, device=META)
            replace(real, alias.set_(known, real.storage_offset(), real.size(), real.stride()))

    def _fill(self, func: OpOverload, traits: Traits, args: Args, kwargs: Kwargs) -> Any:
        """Log a fill from other tensors, without running it."""
        target = args[0]
        if not self.log.knows(target):
            return self._really(func, traits, args, kwargs)
        for source in tensors_in(args[1:]):
            if source.shape != target.shape:
                source.expand(target.shape)  # torch's own error, at the line that made it
        self.log.filled(func, traits, args, kwargs)
        return target

    def _compute(
        self,
        func: OpOverload,
        traits: Traits,
        args: Args,
        kwargs: Kwargs,
        tensors: list[torch.Tensor],
    ) -> Any:
        """Log an operation, and run it on meta for its results' shapes."""
        written = list(tensors_in(*(argument(args, kwargs, place) for place in traits.written)))
        if traits.unlike or not all(tensor.is_meta for tensor in written):
            return self._really(func, traits, args, kwargs)
        device = self.log.device_of(next(filter(self.log.knows, tensors)))
        name = schema_of(func).name.partition("::")[2]
        self.check_autocast(name, tensors, self.autocast & {device.type}, lowered=traits.lowered)
        if kwargs.get("device") is not None:
            device = self._asked_device(kwargs["device"], tensors[0])
            if device == META:
                return self.log.keep_on_meta(func(*args, **kwargs))
            kwargs = {**kwargs, "device": device}
        try:
            out = func(*hollow(args), **hollow(_on_meta(kwargs)))
        except Exception:  # no meta kernel, or the constructor's own mistake: see what happens
            return self._really(func, traits, args, kwargs)
        if not all(_is_plain(result) for result in tensors_in(out)):
            return self._really(func, traits, args, kwargs)
        if traits.relaid is not None and device.type == "cpu":
            out = traits.relaid(out, args)
        fresh = self._fresh(out, tensors, device)
        if written or any(result is not None for result in fresh):
            self.log.computed(func, traits, args, kwargs, fresh)
        return out

    def check_autocast(
        self,
        name: str,
        tensors: Iterable[torch.Tensor],
        kinds: frozenset[str],
        *,
        lowered: bool = False,
    ) -> None:
        """Raise if autocast computes an operation in another dtype, which it does not on meta.

        Args:
            name: Its name.
            tensors: What it is given: half precision may be raised.
            kinds: The kinds of device for which autocast is on.
            lowered: Whether single precision is lowered.
        """
        halves = kinds and not _HALVES.isdisjoint(tensor.dtype for tensor in tensors)
        if (kinds and lowered) or (halves and any(autocasts(name, kind) for kind in kinds)):
            raise NeedsValuesError(name)

    def _fresh(
        self, out: Any, used: list[torch.Tensor], device: torch.device
    ) -> list[torch.Tensor | None]:
        """Enter an operation's results into the tape, but for those that view an argument."""
        known = {storage_key(tensor) for tensor in used}
        fresh: list[torch.Tensor | None] = []
        for result in out if isinstance(out, (tuple, list)) else (out,):
            own = isinstance(result, torch.Tensor) and storage_key(result) not in known
            fresh.append(result if own else None)
            if own:
                self.log.tape.add(result, device)
        return fresh

    def _really(self, func: OpOverload, traits: Traits, args: Args, kwargs: Kwargs) -> Any:
        """Run an operation on the values of its arguments, at its place in the program.

        What it writes to recorded tensors becomes a constant; what it returns stays real.
        """
        real, real_by_word = mapped(args, self.log.real), mapped(kwargs, self.log.real)
        if not self.honest:  # torch's own code has read a device off a tensor
            there = next(tensors_in(real, real_by_word)).device
            real = tuple(there if _is_meta(value) else value for value in real)
        if traits.draws and kwargs.get("generator") is None:
            device = next(tensors_in(real, real_by_word)).device
            out = self.log.draws.now(device, func, traits, real, real_by_word)
        else:
            out = func(*real, **real_by_word)
        recorded: dict[int, torch.Tensor] = {}
        for place in traits.written:
            ours = tensors_in(argument(args, kwargs, place))
            theirs = tensors_in(argument(real, real_by_word, place))
            for tensor, value in zip(ours, theirs, strict=True):
                recorded[id(value)] = tensor
                if tensor is not value:
                    self.log.copy(tensor, value)
        return mapped(out, lambda result: recorded.get(id(result), result))


def _on_meta(kwargs: Kwargs) -> Kwargs:
    """Return keyword arguments as the meta kernel takes them."""
    changed = {"device": META, "pin_memory": None, "generator": None}
    return {word: changed.get(word, value) for word, value in kwargs.items()}


def _is_plain(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is a view of a storage, and nothing else: not sparse or quantised."""
    return tensor.layout is torch.strided and not tensor.is_quantized


def _is_meta(value: object) -> bool:
    return type(value) is torch.device and value == META
