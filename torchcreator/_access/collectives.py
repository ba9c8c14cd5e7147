"""One value made of the values of several ranks: what writes, reads and checks are built on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from torchcreator._errors import DistributedError, VariableTypeError, VariableValueError
from torchcreator._spec.enums import VariableAggregation
from torchcreator._torch.tensors import with_index

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class World:
    """The ranks that share a variable.

    Attributes:
        group: The process group, or None for the default one (or for no group at all).
        rank: This process's place in it.
        size: How many ranks it has; 1 where there is no group, or this process is not in it.
    """

    group: ProcessGroup | None
    rank: int
    size: int

    @classmethod
    def of(cls, group: ProcessGroup | None) -> World:
        """Return the world of a process group; None means the default group."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls(None, 0, 1)
        rank = dist.get_rank(group)
        if rank < 0:  # GroupMember.NON_GROUP_MEMBER: a group that this process is not in
            return cls(None, 0, 1)
        return cls(group, rank, dist.get_world_size(group))

    @property
    def first(self) -> int:
        """The global rank of the first member, as ``torch.distributed`` wants its sources."""
        return 0 if self.group is None else dist.get_global_rank(self.group, 0)

    @property
    def device(self) -> torch.device:
        """Where a tensor of ours must lie to travel: NCCL moves none from the CPU."""
        if self.size == 1:
            return torch.device("cpu")
        # A list of what moves tensors from where, such as cpu:gloo,cuda:nccl.
        kinds = [pair.split(":")[0] for pair in dist.get_backend_config(self.group).split(",")]
        return with_index(torch.device("cpu" if "cpu" in kinds else kinds[0]))


def aggregate(
    value: torch.Tensor, aggregation: VariableAggregation, world: World, name: str
) -> torch.Tensor:
    """Return one tensor, equal on all ranks, of the tensors that the ranks pass.

    Args:
        value: This rank's tensor. Shape, dtype and device type are those of all ranks.
        aggregation: SUM, MEAN or ONLY_FIRST_REPLICA; NONE is the caller's to refuse.
        world: The ranks concerned. With one, the result is a copy of ``value``.
        name: The variable's name, for errors.

    Raises:
        DistributedError: Another rank did not take part.
        VariableTypeError: A sum of booleans.
        VariableValueError: A sum that the dtype cannot hold; on every rank.
    """
    value = value.detach()
    if world.size == 1:
        return value.clone()
    if value.dtype == torch.bool and aggregation is not VariableAggregation.ONLY_FIRST_REPLICA:
        raise VariableTypeError(
            f"Variable {name!r} is boolean, and its aggregation is {aggregation.name}.",
            "True + True is no truth value.",
            "Give it an integer dtype, or aggregation='only_first_replica'.",
        )
    with told_apart(f"Variable {name!r} could not be aggregated", world):
        if aggregation is VariableAggregation.SUM and value.dtype in _NARROW:
            return _narrowed(_sum(value.to(torch.int64), world), value.dtype, name)
        return _METHODS[aggregation](value, world)


_NARROW = {torch.uint8, torch.int8, torch.int16, torch.int32}
"""Integers whose sum over some ranks fits into 64 bits, and may not into their own."""


def _narrowed(total: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    """Return a sum in the dtype of its parts, in which it might have wrapped around."""
    limits = torch.iinfo(dtype)
    if total.numel() and not (limits.min <= total.min() and total.max() <= limits.max):
        raise VariableValueError(
            f"The sum of variable {name!r} over the ranks does not fit into {dtype}.",
            f"It lies between {int(total.min())} and {int(total.max())}, and the dtype ends at "
            f"{limits.max}.",
            "Give it a wider dtype, torch.int64 say.",
        )
    return total.to(dtype)


def _sum(value: torch.Tensor, world: World) -> torch.Tensor:
    total = value.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=world.group)
    return total


def _first(value: torch.Tensor, world: World) -> torch.Tensor:
    result = value.clone(memory_format=torch.contiguous_format)
    broadcast(result, world)
    return result


def _mean(value: torch.Tensor, world: World) -> torch.Tensor:
    """Return the mean, of which the mean of equal values is the value: no ulp off, no overflow.

    In double a sum of narrower floats is exact, but for the last bits of a great many ranks.
    """
    if value.dtype == torch.float64:
        return _mean_of_doubles(value, world)
    wide = torch.promote_types(value.dtype, torch.float64)
    return (_sum(value.to(wide), world) / world.size).to(value.dtype)


def _mean_of_doubles(value: torch.Tensor, world: World) -> torch.Tensor:
    # Nothing wider is there: where the sum overflows, sum the quotients, and hold the result
    # between the least and the greatest value.
    total, quotients = _sum(torch.stack([value, value / world.size]), world)
    mean = torch.where(total.isfinite(), total / world.size, quotients)
    ends = torch.stack([value, -value])
    dist.all_reduce(ends, op=dist.ReduceOp.MAX, group=world.group)
    return mean.clamp(-ends[1], ends[0])


_METHODS: dict[VariableAggregation, Callable[[torch.Tensor, World], torch.Tensor]] = {
    VariableAggregation.SUM: _sum,
    VariableAggregation.MEAN: _mean,
    VariableAggregation.ONLY_FIRST_REPLICA: _first,
}


def broadcast(tensor: torch.Tensor, world: World) -> None:
    """Overwrite a contiguous tensor with the first rank's, byte for byte, whatever its dtype."""
    # As bytes, because gloo knows neither booleans nor the 8-bit floats.
    dist.broadcast(tensor.view(-1).view(torch.uint8), src=world.first, group=world.group)


class told_apart:
    """Turn what a backend raises when a rank is gone into an error that says what was going on."""

    __slots__ = ("_what", "_world")

    def __init__(self, what: str, world: World) -> None:
        self._what = what
        self._world = world

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, RuntimeError) or isinstance(error, DistributedError):
            return
        raise DistributedError(
            f"{self._what} over {self._world.size} ranks (this is rank {self._world.rank}): "
            f"{str(error).partition(chr(10))[0]}",
            "Every rank of the group must make the same call, and one has died, went another "
            "way, or took longer than the group's timeout.",
            "Look at that rank's output first; TORCH_DISTRIBUTED_DEBUG=DETAIL tells which call "
            "each rank was in.",
        ) from error
