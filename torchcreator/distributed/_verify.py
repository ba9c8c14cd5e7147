"""Make sure that all ranks hold the same model before their values are mixed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from torchcreator._access.collectives import World, told_apart
from torchcreator._errors import DistributedError
from torchcreator._spec.enums import VariableSynchronization
from torchcreator._spec.spec import VariableSpec
from torchcreator._torch.dtensor import is_sharded
from torchcreator.distributed._policy import Managed, survey, world_or_refuse

_SHOWN = 10  # differing variables that an error lists before it only counts them


def verify(model: nn.Module, *, process_group: dist.ProcessGroup | None = None) -> None:
    """Check that every rank declares the same variables, and that shared ones have equal values.

    The declarations are compared first: names, policies, constraints, shapes, dtypes,
    ``requires_grad``. Then the values of all parameters that are one value on all ranks, bit for
    bit. Each comparison sends a few bytes per rank; more only where something differs. Left out
    are the values of per-rank variables, of shards, and of variables with a process group of
    their own. Every rank must call it.

    Args:
        model: A module, the same one on all ranks.
        process_group: The ranks to compare; None means the default group.

    Raises:
        DistributedError: Something differs, or a rank did not take part. All ranks raise the same
            error, which names each variable and what each rank has.

    Example:
        >>> import torch.distributed as dist, torchcreator as tc
        >>> from torch import nn
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> tc.distributed.verify(nn.Linear(2, 3))
        >>> dist.destroy_process_group()
    """
    world = world_or_refuse(process_group, "verify()")
    managed = survey(model)
    check_specs(managed, world)
    check_values(managed, world)


def check_specs(
    managed: list[Managed], world: World, buffers: Iterable[tuple[str, torch.Tensor]] = ()
) -> None:
    """Raise on all ranks unless they declare the same variables, and have the same buffers."""
    rows = {m.name: _row(m) for m in managed}
    rows.update((name, f"buffer, shape {_shape(b)}, {_dtype(b)}") for name, b in buffers)
    _compare(
        rows,
        world,
        what="The ranks declare different variables.",
        why="Each rank would reduce or overwrite one variable with another's values.",
        instead="Build the model in the same way on all ranks: the same creators, the same order.",
    )


def check_values(managed: list[Managed], world: World) -> None:
    """Raise on all ranks unless every shared variable has equal values."""
    rows = {
        m.name: f"{_fingerprint(m.parameter)} ({_glimpse(m.parameter)})"
        for m in managed
        if not (m.per_rank or m.has_own_group or is_sharded(m.parameter) or m.parameter.is_meta)
    }
    _compare(
        rows,
        world,
        what="The ranks hold different values of what is one value on all of them.",
        why="Their gradients are reduced into one, so they never become equal again.",
        instead="Wrap the model with data_parallel() or aggregate_gradients(), which broadcast the "
        "first rank's values, and write with assign(); or declare synchronization='none'.",
    )


def _compare(rows: Mapping[str, str], world: World, *, what: str, why: str, instead: str) -> None:
    """Raise the same error on all ranks unless all of them have the same rows."""
    if world.size == 1:
        return
    with told_apart("The ranks' variables could not be compared", world):
        if not _digests_differ(rows, world):
            return
        gathered: list[dict[str, str]] = [{} for _ in range(world.size)]
        dist.all_gather_object(gathered, dict(rows), group=world.group)
    raise DistributedError("\n".join([what, *_differences(gathered)]), why, instead)


def _digests_differ(rows: Mapping[str, str], world: World) -> bool:
    text = repr(list(rows.items())).encode()
    own = torch.tensor(
        list(hashlib.blake2b(text, digest_size=16).digest()), dtype=torch.uint8, device=world.device
    )
    all_of_them = [torch.empty_like(own) for _ in range(world.size)]
    dist.all_gather(all_of_them, own, group=world.group)
    return any(not torch.equal(other, own) for other in all_of_them)


def _differences(gathered: list[dict[str, str]]) -> Iterable[str]:
    """Yield a line for each variable on which the ranks differ: who has what."""
    names = dict.fromkeys(name for rows in gathered for name in rows)
    differing = [name for name in names if len({rows.get(name) for rows in gathered}) > 1]
    if not differing:
        yield "  The variables are the same, in another order: " + "; ".join(
            f"rank {rank}: {', '.join(list(rows)[:_SHOWN])}" for rank, rows in enumerate(gathered)
        )
    for name in differing[:_SHOWN]:
        holders: dict[str, list[str]] = {}
        for rank, rows in enumerate(gathered):
            holders.setdefault(rows.get(name, "missing"), []).append(str(rank))
        yield f"  {name}:"
        for row, ranks in holders.items():
            yield f"    rank {', '.join(ranks)}: {row}"
    if len(differing) > _SHOWN:
        yield f"  and {len(differing) - _SHOWN} more"


def _row(m: Managed) -> str:
    """Return what the ranks must agree on about one variable, as a line for people."""
    own_shape = m.spec is not None and m.spec.synchronization is VariableSynchronization.NONE
    return ", ".join(
        [
            "any shape" if own_shape else f"shape {_shape(m.parameter)}",
            _dtype(m.parameter),
            "trained" if m.parameter.requires_grad else "frozen",
            *([] if m.spec is None else _policies(m.spec)),
        ]
    )


def _shape(tensor: torch.Tensor) -> object:
    return "unknown" if nn.parameter.is_lazy(tensor) else tuple(tensor.shape)


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _policies(spec: VariableSpec) -> list[str]:
    # Not the process group, which differs between ranks by design, nor tags.
    return [
        spec.synchronization.name,
        spec.aggregation.name,
        f"constraint {_described(spec.constraint)}",
    ]


def _described(constraint: Any) -> str:
    """Return a constraint's repr, or its qualified name where that would hold an address."""
    text = repr(constraint)
    if " at 0x" not in text:
        return text
    named = constraint if hasattr(constraint, "__qualname__") else type(constraint)
    return f"{named.__module__}.{named.__qualname__}"


def _fingerprint(parameter: torch.Tensor) -> str:
    """Return 128 bits that depend on every bit of a tensor, computed where it lies."""
    content = parameter.detach().contiguous().view(-1).view(torch.uint8)
    words = torch.nn.functional.pad(content, (0, -content.numel() % 8)).view(torch.int64)
    total = torch.zeros(2, dtype=torch.int64, device=words.device)
    for number, chunk in enumerate(words.split(_CHUNK)):
        place = torch.arange(chunk.numel(), device=chunk.device) + number * _CHUNK
        for i, factor in enumerate(_FACTORS):
            mixed = (chunk ^ (chunk >> 31)) + place * factor
            mixed = (mixed ^ (mixed >> 30)) * factor
            # Integer sums wrap around and do not depend on the order, so every device agrees.
            total[i] += (mixed ^ (mixed >> 27)).sum()
    return "".join(f"{word & 0xFFFFFFFFFFFFFFFF:016x}" for word in total.tolist())


_CHUNK = 1 << 20
_FACTORS = (6364136223846793005, 3935559000370003845)  # odd; of Knuth's and L'Ecuyer's generators


def _glimpse(parameter: torch.Tensor) -> str:
    first = ", ".join(f"{value:.6g}" for value in parameter.detach().view(-1)[:3].tolist())
    return f"{first}, …" if parameter.numel() > 3 else first
