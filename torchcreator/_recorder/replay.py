"""Replay: run a slice of the tape on real memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch

from torchcreator._errors import BuildError
from torchcreator._recorder.pytree import mapped, tensors_in
from torchcreator._recorder.rng_protocol import Draws
from torchcreator._recorder.tape import Op, Ref, Tape
from torchcreator._torch.dispatch import no_autocast, no_function_modes
from torchcreator._torch.tensors import lazy_view, storage_key

Environment = dict[int, torch.UntypedStorage]
"""The contents of storages, by number."""
LINE = "\n"


class ReplayError(BuildError):
    """An operation failed on replay; ``__cause__`` says why."""

    def __init__(self, op: Op) -> None:
        super().__init__("")
        self.op = op

    def __str__(self) -> str:
        output = next(
            (value for value in (*self.op.outputs, *self.op.args) if isinstance(value, Ref)), None
        )
        return str(self.told(f"a tensor of shape {() if output is None else tuple(output.size)}"))

    def told(self, whose: str) -> BuildError:
        """Return the error for whoever asked for a value.

        Args:
            whose: What it is the value of.
        """
        op, cause = self.op, self.__cause__
        if isinstance(op.func, Unseen):
            return BuildError(
                f"{whose} has no value to replay; it was met first at {op.line}.", *op.func.reason
            )
        return BuildError(
            f"Replaying {op.name} for {whose} failed; it was called at {op.line}.",
            f"{type(cause).__name__}: {str(cause).partition(LINE)[0]}",
            "Construct the model without build() to see whether the constructor itself fails; "
            "if it does not, do this after build(), or give the parameter a value by a creator.",
        )


class Unseen:
    """Stands on the tape for whatever gave memory its content that no recorder saw.

    Attributes:
        reason: Why it was not seen, and what to write instead.
    """

    __name__ = "unseen"

    def __init__(self, *reason: str) -> None:
        self.reason = reason

    def __call__(self, *args: object) -> None:
        """Raise: there is nothing to replay."""
        raise RuntimeError(self.reason[0])


def contents(
    tape: Tape, storages: Sequence[int], draws: Draws, *, before: int | None = None
) -> Environment:
    """Replay the storages' slice and return what they hold.

    Args:
        tape: The tape.
        storages: The storages wanted.
        draws: Where random numbers come from.
        before: Their contents just before this operation; None for the last ones.
    """
    return replay(tape, tape.slice(storages, before), storages, draws)


def replay(
    tape: Tape, numbers: Sequence[int], storages: Sequence[int], draws: Draws, *, blank: int = 0
) -> Environment:
    """Run the operations of a slice and return what ``storages`` hold.

    Args:
        tape: The tape.
        numbers: What `Tape.slice` returned.
        storages: The storages wanted; the others are let go as soon as they were used.
        draws: Where random numbers come from.
        blank: The byte that memory which nobody initialised is filled with.
    """
    environment: Environment = {}
    with torch.no_grad(), no_function_modes():
        last_use = {s: n for n in numbers for s in tape.ops[n].reads + tape.ops[n].writes}
        for number in numbers:
            op = tape.ops[number]
            if op.traits.empty:
                _leave_blank(tape, op, environment, blank)
            else:
                _execute(tape, number, environment, draws)
            for storage in op.reads + op.writes:
                if last_use[storage] == number and storage not in storages:
                    environment.pop(storage, None)
    return environment


def filler(tape: Tape, ref: Ref) -> int | None:
    """Return the operation that alone makes a tensor's value by filling it, if there is one."""
    number = tape.filled_by(ref.storage)
    if number is None:
        return None
    op = tape.ops[number]
    usual = op.traits.fills and op.args[0] is ref and tape.is_made(ref) and tape.covers(ref)
    if not usual:
        return None
    return number


def filled(tape: Tape, ref: Ref, draws: Draws) -> torch.Tensor | None:
    """Return the value of a tensor that one operation filled, or None where there is more to it.

    Nearly every parameter is such a one; this is `replay` for it, without the bookkeeping. To be
    called without grad mode and function modes.
    """
    number = filler(tape, ref)
    if number is None:
        return None
    op = tape.ops[number]
    value = torch.empty_strided(
        ref.size, ref.stride, dtype=ref.dtype, device=tape.device(ref.storage)
    )
    try:
        if op.traits.draws:
            draws.run(number, [value, *op.args[1:]], op.kwargs)
        else:
            op.func(value, *op.args[1:], **op.kwargs)
    except ReplayError:  # of another draw, which this one has to come after
        raise
    except Exception as error:
        raise ReplayError(op) from error
    return value


def view(tape: Tape, ref: Ref, environment: Environment) -> torch.Tensor:
    """Return the tensor that ``ref`` describes, on what the storages hold.

    A storage that holds nothing yet is given memory.
    """
    storage = environment.get(ref.storage)
    if storage is None:
        storage = environment[ref.storage] = _allocate(tape, ref.storage)
    tensor = torch.empty(0, dtype=ref.dtype, device=storage.device)
    tensor.set_(storage, ref.offset, ref.size, ref.stride)
    if ref.conj or ref.neg:
        return lazy_view(tensor, conj=ref.conj, neg=ref.neg)
    return tensor


def on_meta(tape: Tape, ref: Ref) -> torch.Tensor:
    """Return a meta tensor that looks at a storage of the tape as ``ref`` describes."""
    return view(tape, ref, {ref.storage: tape.memory(ref.storage)})


def arguments(
    tape: Tape, number: int, environment: Environment
) -> tuple[list[Any], dict[str, Any]]:
    """Return an operation's arguments with real tensors in place of the snapshots."""
    op = tape.ops[number]
    args = [_real(tape, value, environment) for value in op.args]
    return args, {word: _real(tape, value, environment) for word, value in op.kwargs.items()}


def bytes_of(memory: torch.UntypedStorage) -> torch.Tensor:
    """Return the bytes of a storage as a tensor."""
    return torch.empty(0, dtype=torch.uint8, device=memory.device).set_(memory)


def run(op: Op, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Run an operation as under the default dtype of its time, which other threads do not see.

    So whatever autocast is on now; the one of its time has no part in what is recorded.

    ``int / int`` and ``sqrt(int)`` have the default dtype, and ``int > 0.5`` compares in it. These
    give the same result where integers come in that dtype to begin with.
    """
    with no_autocast():
        return _run(op, args, kwargs)


def _run(op: Op, args: list[Any], kwargs: dict[str, Any]) -> Any:
    dtype = None if op.default_dtype is torch.get_default_dtype() else _promoted(op, args, kwargs)
    if dtype is not None:
        as_then = partial(mapped, function=lambda tensor: tensor.to(dtype))
        with suppress(RuntimeError):  # one of them must be an integer: an index, a mask
            result = op.func(*as_then(args), **as_then(kwargs))
            if _misfit(op, result) is None:
                return result
    return op.func(*args, **kwargs)


def _promoted(op: Op, args: list[Any], kwargs: dict[str, Any]) -> torch.dtype | None:
    """Return the floats in which an operation computed, if it was from integers alone."""
    tensors = [*tensors_in(args, kwargs)]
    given = any(tensor.is_floating_point() or tensor.is_complex() for tensor in tensors)
    if given or not tensors or op.traits.written or kwargs.get("dtype") is not None:
        return None
    results = [output.dtype for output in op.outputs if output is not None]
    floats = [dtype for dtype in results if dtype.is_floating_point or dtype.is_complex]
    if floats:
        return floats[0].to_real()
    numbers = {type(value) for value in (*args, *kwargs.values())}
    if complex in numbers:  # to bfloat16 complex64 belongs, for all that newer torch calls its own
        return torch.float32 if op.default_dtype is torch.bfloat16 else op.default_dtype
    return op.default_dtype if float in numbers else None


def _misfit(op: Op, result: Any) -> torch.dtype | None:
    """Return the dtype of a result that has another one than when it was recorded."""
    results = result if isinstance(result, (tuple, list)) else (result,)
    for output, real in zip(op.outputs, results, strict=False):
        if output is not None and real is not None and real.dtype is not output.dtype:
            found: torch.dtype = real.dtype
            return found
    return None


def _real(tape: Tape, value: Any, environment: Environment) -> Any:
    if isinstance(value, Ref):
        return view(tape, value, environment)
    if type(value) in (list, tuple):  # a Ref is a tuple of another type
        return type(value)(_real(tape, item, environment) for item in value)
    return value


def _allocate(tape: Tape, storage: int) -> torch.UntypedStorage:
    return torch.UntypedStorage(tape.nbytes(storage), device=tape.device(storage))


def _leave_blank(tape: Tape, op: Op, environment: Environment, blank: int) -> None:
    for storage in op.whole:
        environment[storage] = memory = _allocate(tape, storage)
        bytes_of(memory).fill_(blank)


def _execute(tape: Tape, number: int, environment: Environment, draws: Draws) -> None:
    op = tape.ops[number]
    try:
        args, kwargs = arguments(tape, number, environment)
        result = draws.run(number, args, kwargs) if op.traits.draws else run(op, args, kwargs)
        if op.outputs:
            _check_dtype(op, result)
            _enter(tape, op, result, environment, [*tensors_in(args, kwargs)])
    except ReplayError:
        raise
    except Exception as error:
        raise ReplayError(op) from error


def _check_dtype(op: Op, result: Any) -> None:
    found = _misfit(op, result)
    if found is not None and op.default_dtype is not torch.get_default_dtype():
        message = f"it gives {found}, as the default dtype is another one than in the constructor"
        raise TypeError(message)


def _enter(
    tape: Tape, op: Op, result: Any, environment: Environment, used: list[torch.Tensor]
) -> None:
    """Put an operation's results into the environment, but for those that view an argument."""
    keys = {storage_key(tensor) for tensor in used}
    results = result if isinstance(result, (tuple, list)) else (result,)
    for output, real in zip(op.outputs, results, strict=False):
        if output is None or real is None:  # a gradient that nobody needs, say
            continue
        laid_out_alike = (real.stride(), real.storage_offset()) == (output.stride, output.offset)
        whole = real.untyped_storage().nbytes() == tape.nbytes(output.storage)
        if laid_out_alike and whole and storage_key(real) not in keys:
            environment[output.storage] = real.untyped_storage()
        else:  # meta kernels and real ones may lay out their results differently (qr, svd)
            view(tape, output, environment).copy_(real)
