"""What became of recorded tensors since their constructor ran, told to the tape."""

from __future__ import annotations

import torch

from torchcreator._call_site import user_place
from torchcreator._recorder.op_schema import traits_of
from torchcreator._recorder.recording import Recording
from torchcreator._recorder.replay import on_meta
from torchcreator._recorder.tape import Op, Ref
from torchcreator._torch.dispatch import TO_COPY, OpOverload

_CLONE = torch.ops.aten.clone.default


def converted(recording: Recording, ref: Ref, tensor: torch.Tensor) -> None:
    """Let a meta tensor stand for the value of ``ref``, in the dtype and strides that it has."""
    made = recording.tape.made(tensor, recording.tape.device(ref.storage))
    _tell(recording, TO_COPY, ref, made, {"dtype": tensor.dtype})


def copied(recording: Recording, storage: int) -> int:
    """Return a storage of its own with what another one holds at the end."""
    tape = recording.tape
    whole = tape.whole(storage)
    made = tape.made(on_meta(tape, whole).clone(), tape.device(storage))
    _tell(recording, _CLONE, whole, made, {})
    return made.storage


def _tell(
    recording: Recording, func: OpOverload, source: Ref, made: Ref, kwargs: dict[str, object]
) -> None:
    op = Op(
        func,
        traits_of(func),
        (source,),
        kwargs,
        outputs=(made,),
        reads=(source.storage,),
        writes=(made.storage,),
        whole=(made.storage,),
        default_dtype=torch.get_default_dtype(),
        place=user_place(),
    )
    recording.tape.log(op)
    if source.storage in recording.names:
        recording.names[made.storage] = recording.names[source.storage]
    if source.storage in recording.initialised:
        recording.initialised.add(made.storage)
