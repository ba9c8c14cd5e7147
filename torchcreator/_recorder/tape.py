"""The tape: what a constructor did to its tensors, as snapshots that can be replayed in any order.

Operations are logged against *storages*, not tensors: a tensor may be resized, transposed or
given another storage after it was used, a snapshot may not. Per storage there is a list of its
writers. What a storage holds is made by its *slice*: its writers back to the last one that
overwrote all of it, and in turn the slices of everything those read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from torchcreator._call_site import Line, Place
from torchcreator._recorder.op_schema import Traits
from torchcreator._torch.tensors import storage_key

quickly = tuple.__new__
"""Make a named tuple of a tuple, in half the time that calling its class takes."""


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
    traits: Traits
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Ref | None, ...]  # None: an output that views an argument
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    whole: tuple[int, ...]  # the storages it gives a content that owes nothing to the old one
    default_dtype: torch.dtype
    place: Place

    @property
    def line(self) -> Line:
        """The line of the user's code that it came from."""
        return Line(*self.place)

    @property
    def name(self) -> str:
        """The operation's name as PyTorch users know it."""
        return str(getattr(self.func, "__name__", self.func)).partition(".")[0]


class _Storage:
    """A storage, what it was made for, and who wrote to it."""

    __slots__ = ("alone", "device", "made", "meta", "writers")

    def __init__(
        self,
        number: int,
        meta: torch.UntypedStorage,
        device: torch.device,
        made: Ref | None = None,
    ) -> None:
        self.alone = (number,)
        self.meta = meta  # kept alive: its address is its key
        self.device = device
        self.made = made  # the tensor it was made for
        self.writers: list[int] = []


class Tape:
    """The log of one construction."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self._storages: list[_Storage] = []
        self._index: dict[int, int] = {}

    def find(self, tensor: torch.Tensor) -> int | None:
        """Return the number of the tensor's storage, or None if the tape does not know it."""
        return self._index.get(storage_key(tensor))

    def add(self, tensor: torch.Tensor, device: torch.device) -> int:
        """Enter the storage of a meta tensor, which is to be on ``device``."""
        number = self._index.setdefault(storage_key(tensor), len(self._storages))
        if number == len(self._storages):
            self._storages.append(_Storage(number, tensor.untyped_storage(), device))
        return number

    def made(self, tensor: torch.Tensor, device: torch.device) -> Ref:
        """Enter the storage of a meta tensor that is the only one to look at it; return its Ref."""
        number, form = len(self._storages), (tensor.dtype, tensor.size(), tensor.stride())
        ref = quickly(Ref, (number, *form, 0, False, False))
        self._index[storage_key(tensor)] = number
        self._storages.append(_Storage(number, tensor.untyped_storage(), device, ref))
        return ref

    def device(self, storage: int) -> torch.device:
        """Return the device that a storage is to be on."""
        return self._storages[storage].device

    def alone(self, storage: int) -> tuple[int]:
        """Return a tuple of the number of a storage, always the same one."""
        return self._storages[storage].alone

    def memory(self, storage: int) -> torch.UntypedStorage:
        """Return the storage itself, on meta."""
        return self._storages[storage].meta

    def nbytes(self, storage: int) -> int:
        """Return the size of a storage in bytes."""
        return self._storages[storage].meta.nbytes()

    def __len__(self) -> int:
        """Return how many storages there are."""
        return len(self._storages)

    def ref(self, tensor: torch.Tensor) -> Ref:
        """Return a snapshot of a tensor whose storage the tape knows."""
        return self.ref_at(self._index[storage_key(tensor)], tensor)

    def ref_at(self, storage: int, tensor: torch.Tensor) -> Ref:
        """Return a snapshot of a tensor that looks at that storage."""
        dtype, size, stride = tensor.dtype, tensor.size(), tensor.stride()
        offset, neg = int(tensor.storage_offset()), tensor.is_neg()
        conj = dtype.is_complex and tensor.is_conj()
        made = self._storages[storage].made
        if (
            made is not None  # nearly always, and then it looks at all that was made
            and size == made.size
            and stride == made.stride
            and dtype is made.dtype
            and not (offset or conj or neg)
        ):
            return made
        return Ref(storage, dtype, size, stride, offset, conj, neg)

    def is_made(self, ref: Ref) -> bool:
        """Return whether ``ref`` looks at its storage as the tensor did that it was made for."""
        return ref is self._storages[ref.storage].made

    def covers(self, ref: Ref) -> bool:
        """Return whether every byte of the storage belongs to exactly one element of ``ref``."""
        held = self._storages[ref.storage]
        if ref.offset or ref.size.numel() * ref.dtype.itemsize != held.meta.nbytes():
            return False
        if ref is held.made:
            return True
        expected = 1
        for stride, length in sorted(zip(ref.stride, ref.size, strict=True)):
            if length != 1:
                if stride != expected:
                    return False
                expected *= length
        return True

    def whole(self, storage: int) -> Ref:
        """Return a tensor that covers a storage: the one it was made for, if that does."""
        made = self._storages[storage].made
        if made is not None and self.covers(made):
            return made
        size = torch.Size([self.nbytes(storage)])
        return Ref(storage, torch.uint8, size, (1,), 0, False, False)

    def log(self, op: Op) -> int:
        """Append an operation and return its number."""
        number = len(self.ops)
        self.ops.append(op)
        for storage in op.writes:
            self._storages[storage].writers.append(number)
        return number

    def filled_by(self, storage: int) -> int | None:
        """Return the operation that alone makes the storage's content, if there is one."""
        writers = self._storages[storage].writers
        if writers:
            op = self.ops[writers[-1]]
            if op.whole == op.writes and not op.reads and len(op.writes) == 1:
                return writers[-1]
        return None

    def slice(self, storages: Sequence[int], before: int | None = None) -> list[int]:
        """Return the operations that make the storages' contents, in program order.

        Args:
            storages: The storages wanted.
            before: Their contents just before this operation; None for the last ones.
        """
        if before is None and len(storages) == 1:
            alone = self.filled_by(storages[0])  # nearly always
            if alone is not None:
                return [alone]
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

    def writers(self, storage: int, before: int | None = None) -> list[int]:
        """Return the operations that wrote to a storage, before one of them, in program order."""
        writers = self._storages[storage].writers
        return writers if before is None else writers[: bisect_left(writers, before)]

    def last_writer(self, storage: int, before: int | None = None) -> int:
        """Return the operation that wrote to a storage last, before one of them; -1 if none did."""
        writers = self.writers(storage, before)
        return writers[-1] if writers else -1

    def grid(self, storage: int) -> Ref | None:
        """Return the tensor that all of a storage was made for, None where there is none."""
        made = self._storages[storage].made
        if made is None:
            writers = self._storages[storage].writers
            outputs = self.ops[writers[0]].outputs if writers else ()
            made = next((ref for ref in outputs if ref and ref.storage == storage), None)
        return made if made is not None and self.covers(made) else None
