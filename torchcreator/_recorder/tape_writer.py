"""What is known about the tensors of a recording: the tape as its writers use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from torchcreator._call_site import Line, Place, user_place
from torchcreator._errors import BuildError
from torchcreator._recorder.complaints import failed, unrecordable, unseen, whose
from torchcreator._recorder.op_schema import Traits, traits_of
from torchcreator._recorder.pytree import META, argument, blank, mapped, tensors_in
from torchcreator._recorder.replay import Environment, bytes_of, replay, view
from torchcreator._recorder.rng import is_default
from torchcreator._recorder.rng_protocol import Draws
from torchcreator._recorder.tape import Op, Ref, Tape, quickly
from torchcreator._torch.dispatch import no_dispatch_modes, no_function_modes
from torchcreator._torch.tensors import is_plain_meta, storage_key

Function = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]
COPY = torch.ops.aten.copy_.default


class Log:
    """Writes a tape, and answers for the tensors on it while it is being written.

    Attributes:
        tape: The tape.
        draws: Where random numbers come from when a value is needed at once.
    """

    def __init__(self, tape: Tape, draws: Draws) -> None:
        self.tape = tape
        self.draws = draws
        self._on_meta: dict[int, torch.UntypedStorage] = {}
        self._adopted: dict[int, torch.UntypedStorage] = {}
        self._latest: tuple[int, int, Environment, list[int]] | None = None
        self._asking = False
        self._place: Place | None = None

    def knows(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is a recorded one: on meta, and standing for a real one."""
        if not tensor.is_meta:
            return False
        if self.tape.find(tensor) is None:
            if storage_key(tensor) in self._on_meta:
                return False
            self._lose(tensor)
        return True

    def known(self, tensor: torch.Tensor) -> int | None:
        """Return the storage of a tensor that is seen to be a recorded one."""
        return self.tape.find(tensor) if is_plain_meta(tensor) else None

    def keep_on_meta(self, result: Any) -> Any:
        """Note that the tensors in ``result`` are on meta because the constructor said so."""
        for tensor in tensors_in(result):
            if tensor.is_meta and self.tape.find(tensor) is None:
                self._on_meta[storage_key(tensor)] = tensor.untyped_storage()
        return result

    def device_of(self, tensor: torch.Tensor) -> torch.device:
        """Return the device that a tensor is on, or will be."""
        with no_function_modes():
            storage = self.tape.find(tensor) if tensor.is_meta else None
            return tensor.device if storage is None else self.tape.device(storage)

    def value(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the value that a recorded tensor has now, in memory of its own."""
        try:
            return self._value(tensor)
        except BuildError:
            raise
        except Exception as error:
            what = f"The value of {whose(tensor)} is asked for"
            raise failed(error, what, Line(*user_place())) from error

    def _value(self, tensor: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), _unrecorded():
            ref = self.tape.ref(tensor)
            now = ref.storage, self.tape.last_writer(ref.storage)
            if self._latest is None or self._latest[:2] != now:
                numbers = self.tape.slice([ref.storage])
                drawn = [n for n in numbers if self.tape.ops[n].traits.draws]
                self.draws.asked(drawn)
                # Constructors read element by element: `[x.item() for x in rates]`.
                self._latest = *now, replay(self.tape, numbers, [ref.storage], self.draws), drawn
            if not self._asking:
                self.draws.seen(self._latest[3])
            return view(self.tape, ref, self._latest[2]).clone()

    def answer(self, func: Function, traits: Traits, args: Args, kwargs: Kwargs) -> Any:
        """Answer an operation that gives a number; yes or no leaves open what was drawn."""
        self._asking = True
        try:
            result = func(*mapped(args, self.real), **mapped(kwargs, self.real))
        finally:
            self._asking = False
        if self.draws.ordered:  # a draw has one value, whoever sees it
            return result
        if type(result) is bool:
            with _unrecorded():
                self.computed(func, traits, args, kwargs, [])
                self.draws.answered(len(self.tape.ops) - 1, result)
        else:
            for tensor in filter(self.knows, tensors_in(args, kwargs)):
                self.value(tensor)  # it is seen
        return result

    def real(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the value of a tensor that may be recorded."""
        return self.value(tensor) if self.knows(tensor) else tensor

    def constant(self, value: torch.Tensor) -> torch.Tensor:
        """Return a recorded tensor with the value of a real one."""
        with _unrecorded():
            meta = blank(value)
            self.tape.add(meta, value.device)
            self.copy(meta, value)
            return meta

    def adopted(self, memory: torch.UntypedStorage) -> torch.UntypedStorage:
        """Return the storage that stands for a real one in the tape, which reads it at the end."""
        with _unrecorded():
            content = bytes_of(memory)
            key = storage_key(content)
            if key not in self._adopted:
                meta = blank(content)
                storage = self.tape.add(meta, memory.device)
                args, whole = (self.tape.ref(meta), content), (storage,)
                self._put(COPY, traits_of(COPY), args, {}, (), (), whole, whole)
                self._adopted[key] = meta.untyped_storage()
            return self._adopted[key]

    def copy(self, target: torch.Tensor, value: torch.Tensor) -> None:
        """Log that a recorded tensor takes the value of a real one."""
        self.filled(COPY, traits_of(COPY), (target, value), {})

    def call(self, func: Function, tensor: torch.Tensor, kwargs: Kwargs) -> None:
        """Log a whole function of `torch.nn.init` that fills ``tensor``, as one operation."""
        seeded = None if func is nn.init.sparse_ else func  # its permutations ignore `generator=`
        traits = Traits(draws="generator" in kwargs, seeded=seeded, fills=True)
        with _unrecorded():
            if seeded is not None or is_default(kwargs.get("generator")):
                self.filled(func, traits, (tensor,), kwargs)
                return
            value = torch.empty_strided(
                tensor.size(), tensor.stride(), dtype=tensor.dtype, device=self.device_of(tensor)
            )
            self.draws.now(value.device, func, traits, (value,), kwargs)
            self.copy(tensor, value)

    def made(
        self,
        func: Function,
        traits: Traits,
        args: Args,
        kwargs: Kwargs,
        out: torch.Tensor,
        device: torch.device,
    ) -> None:
        """Log an operation that made ``out``, which is to be on ``device``, from no tensor."""
        ref = self.tape.made(out, device)
        if traits.takes_dtype:
            kwargs["dtype"] = ref.dtype  # the default dtype may be another one on replay
        whole = self.tape.alone(ref.storage)
        self._put(func, traits, args, kwargs, (ref,), (), whole, whole)

    def fill(
        self,
        func: Function,
        traits: Traits,
        storage: int,
        target: torch.Tensor,
        numbers: Args,
        kwargs: Kwargs,
    ) -> None:
        """Log an operation that filled ``target``, on that storage, from no other tensor."""
        ref = self.tape.ref_at(storage, target)
        writes = self.tape.alone(storage)
        whole = writes if self.tape.covers(ref) else ()
        self._put(func, traits, (ref, *numbers), kwargs, (), (), writes, whole)

    def filled(self, func: Function, traits: Traits, args: Args, kwargs: Kwargs) -> None:
        """Log an operation that wrote its first argument, which is recorded, without reading it."""
        target = self.tape.ref(args[0])
        sources = args[1:]
        reads = self._read(sources, kwargs)
        writes = (target.storage,)
        covered = target.storage not in reads and self.tape.covers(target)
        whole = writes if covered else ()
        args = (target, *mapped(sources, self._snapshot))
        self._put(func, traits, args, kwargs, (), reads, writes, whole)

    def computed(
        self,
        func: Function,
        traits: Traits,
        args: Args,
        kwargs: Kwargs,
        fresh: Sequence[torch.Tensor | None],
    ) -> None:
        """Log any other operation.

        Args:
            func: The operation.
            traits: Its traits.
            args: Its arguments, with recorded and real tensors.
            kwargs: Its keyword arguments.
            fresh: Its results, None for those that share an argument's memory.
        """
        outputs = tuple(None if tensor is None else self.tape.ref(tensor) for tensor in fresh)
        made = tuple(output.storage for output in outputs if output is not None)
        written = self._read(*(argument(args, kwargs, place) for place in traits.written))
        self._put(
            func,
            traits,
            mapped(args, self._snapshot),
            mapped(kwargs, self._snapshot),
            outputs,
            self._read(args, kwargs),
            (*written, *made),
            made,
        )

    def _put(
        self,
        func: Function,
        traits: Traits,
        args: Args,
        kwargs: Kwargs,
        outputs: tuple[Ref | None, ...],
        reads: tuple[int, ...],
        writes: tuple[int, ...],
        whole: tuple[int, ...],
    ) -> None:
        explicit = None
        if traits.draws and kwargs and kwargs.get("generator") is not None:
            explicit = None if is_default(kwargs["generator"]) else kwargs["generator"]
            kwargs = {**kwargs, "generator": None}
        dtype, place = torch.get_default_dtype(), user_place(self._place)
        self._place = place
        fields = func, traits, args, kwargs, outputs, reads, writes, whole, dtype, place
        op = quickly(Op, fields)
        number = self.tape.log(op)
        if traits.draws:
            self.draws.noted(number, self.tape.device(writes[0]), explicit)

    def escape(self, what: str, tensor: torch.Tensor) -> None:
        """Raise the error for something in the constructor that cannot be recorded."""
        raise unrecordable(what, tensor, Line(*user_place()))

    def _read(self, *values: Any) -> tuple[int, ...]:
        found = (self.tape.find(tensor) for tensor in tensors_in(*values) if tensor.is_meta)
        return tuple(dict.fromkeys(storage for storage in found if storage is not None))

    def _snapshot(self, tensor: torch.Tensor) -> Any:
        if not tensor.is_meta:
            return tensor.detach().clone()
        return tensor if self.tape.find(tensor) is None else self.tape.ref(tensor)

    def _lose(self, tensor: torch.Tensor) -> None:
        """Enter a meta storage that came into being out of sight: no replay can make it."""
        self.tape.add(tensor, default_device())
        self.filled(unseen(tensor), Traits(fills=True), (tensor,), {})


@contextmanager
def _unrecorded() -> Iterator[None]:
    """Run without any mode: the disguise calls the log while the recorder is active."""
    with no_dispatch_modes(), no_function_modes():
        yield


def default_device() -> torch.device:
    """Return torch's default device, or the CPU where that is meta."""
    device = torch.get_default_device()
    return torch.device("cpu") if device == META else device
