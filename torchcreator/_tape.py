"""The tape: what a constructor did to its tensors, as snapshots that can be replayed in any order.

Operations are logged against *storages*, not tensors: a tensor may be resized, transposed or
given another storage after it was used, a snapshot may not. Per storage there is a list of its
writers. What a storage holds is made by its *slice*: its writers back to the last one that
overwrote all of it, and in turn the slices of everything those read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from torchcreator import _private
from torchcreator._arguments import Line, tensors_in

if TYPE_CHECKING:
    from torchcreator._draws import Draws


class Ref(NamedTuple):
    """A tensor as it was when an operation used it: a view of a storage of the tape."""

    storage: int
    dtype: torch.dtype
    size: torch.Size
    stride: tuple[int, ...]
    offset: int
    conj: bool
    neg: bool


class Op(NamedTuple):
    """One logged operation; ``args`` and ``kwargs`` hold a `Ref` where a tensor stood."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Ref | None, ...]  # None: an output that views an argument
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    whole: tuple[int, ...]  # the storages it gives a content that owes nothing to the old one
    draws: bool
    fills: bool  # writes its first argument without reading it
    empty: bool  # its content is whatever the memory held
    default_dtype: torch.dtype
    line: Line

    @property
    def name(self) -> str:
        """The operation's name as PyTorch users know it."""
        return str(getattr(self.func, "__name__", self.func)).partition(".")[0]


class ReplayError(Exception):
    """An operation failed on replay; ``__cause__`` says why."""

    def __init__(self, op: Op) -> None:
        super().__init__(op)
        self.op = op


class _Storage(NamedTuple):
    meta: torch.UntypedStorage  # kept alive: its address is its key
    device: torch.device
    writers: list[int]
    made: Ref | None  # the tensor it was made for


Environment = dict[int, torch.UntypedStorage]


class Tape:
    """The log of one construction."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self._storages: list[_Storage] = []
        self._index: dict[int, int] = {}

    def find(self, tensor: torch.Tensor) -> int | None:
        """Return the number of the tensor's storage, or None if the tape does not know it."""
        return self._index.get(_private.storage_key(tensor))

    def add(self, tensor: torch.Tensor, device: torch.device) -> int:
        """Enter the storage of a meta tensor, which is to be on ``device``."""
        number = self._index.setdefault(_private.storage_key(tensor), len(self._storages))
        if number == len(self._storages):
            self._storages.append(_Storage(tensor.untyped_storage(), device, [], None))
        return number

    def made(self, tensor: torch.Tensor, device: torch.device) -> Ref:
        """Enter the storage of a meta tensor that is the only one to look at it; return its Ref."""
        number = len(self._storages)
        ref = Ref(number, tensor.dtype, tensor.size(), tensor.stride(), 0, False, False)
        self._index[_private.storage_key(tensor)] = number
        self._storages.append(_Storage(tensor.untyped_storage(), device, [], ref))
        return ref

    def device(self, storage: int) -> torch.device:
        """Return the device that a storage is to be on."""
        return self._storages[storage].device

    def nbytes(self, storage: int) -> int:
        """Return the size of a storage in bytes."""
        return self._storages[storage].meta.nbytes()

    def ref(self, tensor: torch.Tensor) -> Ref:
        """Return a snapshot of a tensor whose storage the tape knows."""
        return Ref(
            self._index[_private.storage_key(tensor)],
            tensor.dtype,
            tensor.size(),
            tensor.stride(),
            int(tensor.storage_offset()),
            tensor.is_conj(),
            tensor.is_neg(),
        )

    def covers(self, ref: Ref) -> bool:
        """Return whether every byte of the storage belongs to exactly one element of ``ref``."""
        if ref.offset or ref.size.numel() * ref.dtype.itemsize != self.nbytes(ref.storage):
            return False
        if ref == self._storages[ref.storage].made:  # nearly always
            return True
        expected = 1
        for stride, length in sorted(zip(ref.stride, ref.size, strict=True)):
            if length != 1:
                if stride != expected:
                    return False
                expected *= length
        return True

    def log(self, op: Op) -> int:
        """Append an operation and return its number."""
        number = len(self.ops)
        self.ops.append(op)
        for storage in op.writes:
            self._storages[storage].writers.append(number)
        return number

    def slice(self, storages: Sequence[int], before: int | None = None) -> list[int]:
        """Return the operations that make the storages' contents, in program order.

        Args:
            storages: The storages wanted.
            before: Their contents just before this operation; None for the last ones.
        """
        if before is None and len(storages) == 1:  # nearly always: made or filled by one operation
            writers = self._storages[storages[0]].writers
            if writers and (op := self.ops[writers[-1]]).whole == op.writes and not op.reads:
                return writers[-1:]
        found: set[int] = set()
        done: set[tuple[int, int]] = set()
        todo = [(storage, len(self.ops) if before is None else before) for storage in storages]
        while todo:
            storage, end = todo.pop()
            writers = self._storages[storage].writers
            for number in reversed(writers[: bisect_left(writers, end)]):
                if (storage, number) in done:
                    break
                done.add((storage, number))
                op = self.ops[number]
                if number not in found:
                    found.add(number)
                    todo += [(other, number) for other in op.reads if other != storage]
                    # All an operation writes must be there when it runs, wanted or not.
                    todo += [(o, number) for o in op.writes if o != storage and o not in op.whole]
                if storage in op.whole:
                    break
        return sorted(found)

    def writers(self, storage: int) -> list[int]:
        """Return the numbers of the operations that wrote to a storage, in program order."""
        return self._storages[storage].writers

    def run(
        self, storages: Sequence[int], draws: Draws, *, before: int | None = None
    ) -> Environment:
        """Replay the storages' slice and return their contents.

        Args:
            storages: The storages wanted.
            draws: Where random numbers come from.
            before: Their contents just before this operation; None for the last ones.
        """
        return self.replay(self.slice(storages, before), storages, draws)

    def replay(
        self, numbers: Sequence[int], storages: Sequence[int], draws: Draws, *, blank: int = 0
    ) -> Environment:
        """Run the operations of a slice and return the contents of ``storages``.

        Args:
            numbers: What `slice` returned.
            storages: The storages wanted; the others are let go as soon as they were used.
            draws: Where random numbers come from.
            blank: The byte that memory which nobody initialised is filled with.
        """
        if torch.is_grad_enabled() or _private.function_modes_active():
            with torch.no_grad(), _private.no_function_modes():
                return self._replay(numbers, storages, draws, blank)
        return self._replay(numbers, storages, draws, blank)

    def _replay(
        self, numbers: Sequence[int], storages: Sequence[int], draws: Draws, blank: int
    ) -> Environment:
        environment: Environment = {}
        if len(numbers) == 1:  # nearly always
            self._execute(numbers[0], environment, draws, blank)
            return environment
        last_use = {s: n for n in numbers for s in self.ops[n].reads + self.ops[n].writes}
        for number in numbers:
            self._execute(number, environment, draws, blank)
            op = self.ops[number]
            for storage in op.reads + op.writes:
                if last_use[storage] == number and storage not in storages:
                    environment.pop(storage, None)
        return environment

    def view(self, ref: Ref, environment: Environment) -> torch.Tensor:
        """Return the tensor that ``ref`` describes, on the contents in ``environment``."""
        storage = environment.get(ref.storage)
        if storage is None:
            return self._new(ref, environment)
        tensor = torch.empty(0, dtype=ref.dtype, device=storage.device)
        tensor.set_(storage, ref.offset, ref.size, ref.stride)
        if ref.conj or ref.neg:
            return _private.lazy_view(tensor, conj=ref.conj, neg=ref.neg)
        return tensor

    def _new(self, ref: Ref, environment: Environment) -> torch.Tensor:
        """Return the tensor that ``ref`` describes, on new memory for its storage."""
        if ref == self._storages[ref.storage].made and self.covers(ref):
            device = self.device(ref.storage)
            tensor = torch.empty_strided(ref.size, ref.stride, dtype=ref.dtype, device=device)
            environment[ref.storage] = tensor.untyped_storage()
            return tensor
        environment[ref.storage] = self._allocate(ref.storage)
        return self.view(ref, environment)

    def meta(self, ref: Ref) -> torch.Tensor:
        """Return a meta tensor that looks at a storage of the tape as ``ref`` describes."""
        return self.view(ref, {ref.storage: self._storages[ref.storage].meta})

    def arguments(self, number: int, environment: Environment) -> tuple[list[Any], dict[str, Any]]:
        """Return an operation's arguments with real tensors in place of the snapshots."""
        op = self.ops[number]
        args = [self._real(value, environment) for value in op.args]
        if not op.kwargs:
            return args, {}
        return args, {word: self._real(value, environment) for word, value in op.kwargs.items()}

    def _real(self, value: Any, environment: Environment) -> Any:
        if isinstance(value, Ref):
            return self.view(value, environment)
        if type(value) in (list, tuple):  # a Ref is a tuple of another type
            return type(value)(self._real(item, environment) for item in value)
        return value

    def _allocate(self, storage: int) -> torch.UntypedStorage:
        return torch.UntypedStorage(self.nbytes(storage), device=self.device(storage))

    def _execute(self, number: int, environment: Environment, draws: Draws, blank: int) -> None:
        op = self.ops[number]
        if op.empty:
            for storage in op.whole:
                environment[storage] = memory = self._allocate(storage)
                bytes_of(memory).fill_(blank)
            return
        try:
            self._call(op, number, environment, draws)
        except ReplayError:
            raise
        except Exception as error:
            raise ReplayError(op) from error

    def _call(self, op: Op, number: int, environment: Environment, draws: Draws) -> None:
        args, kwargs = self.arguments(number, environment)
        with default_dtype(op.default_dtype):
            if op.draws:
                result = draws.run(number, op.func, args, kwargs)
            else:
                result = op.func(*args, **kwargs)
        if not op.outputs:
            return
        used = {_private.storage_key(tensor) for tensor in tensors_in(args, kwargs)}
        results = result if isinstance(result, (tuple, list)) else (result,)
        for output, real in zip(op.outputs, results, strict=False):
            if output is not None:
                self._bind(output, real, environment, used)

    def _bind(
        self, output: Ref, real: torch.Tensor, environment: Environment, used: set[int]
    ) -> None:
        """Enter a result into the environment, as its own storage if it is laid out as recorded."""
        same = (real.stride(), real.storage_offset()) == (output.stride, output.offset)
        whole = real.untyped_storage().nbytes() == self.nbytes(output.storage)
        if same and whole and _private.storage_key(real) not in used:
            environment[output.storage] = real.untyped_storage()
        else:  # meta kernels and real ones may lay out their results differently (qr, svd)
            self.view(output, environment).copy_(real)


def bytes_of(memory: torch.UntypedStorage) -> torch.Tensor:
    """Return the bytes of a storage as a tensor."""
    return torch.empty(0, dtype=torch.uint8, device=memory.device).set_(memory)


class default_dtype:
    """Run with the default dtype of an operation's time (``int / int`` depends on it)."""

    __slots__ = ("_before", "_wanted")

    def __init__(self, wanted: torch.dtype) -> None:
        self._wanted = wanted
        self._before = torch.get_default_dtype()

    def __enter__(self) -> None:
        if self._wanted is not self._before:
            torch.set_default_dtype(self._wanted)

    def __exit__(self, *_: object) -> None:
        if self._wanted is not self._before:
            torch.set_default_dtype(self._before)
