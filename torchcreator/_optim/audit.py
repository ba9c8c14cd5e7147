"""Before an optimizer writes: is what its variables declare about several ranks carried out?"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from operator import attrgetter

import torch
import torch.distributed as dist

from torchcreator._errors import DistributedError
from torchcreator._optim import owners
from torchcreator._optim.owners import Owner
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.live_modules import full_name
from torchcreator._spec.spec import VariableSpec, policy_epoch
from torchcreator._spec.table import specs_of
from torchcreator._torch.hosts import current_graph_task, ddp_parameters, is_sharded_by_fsdp

_is_trained = attrgetter("requires_grad")
_PER_RANK = (VariableSynchronization.NONE, VariableSynchronization.ON_READ)
_ASKS = (VariableAggregation.SUM, VariableAggregation.ONLY_FIRST_REPLICA)


def many_ranks() -> bool:
    """Return whether there is anybody to reduce gradients with."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class Audit:
    """What was found out about the parameters of one optimizer, until something changes.

    Args:
        parameters: All parameters that the optimizer holds.
    """

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        late = {id(p): p for owner in owners.owners() for p in owner.look()}
        # A gradient that was there before its owner has not been reduced by anybody.
        self._late = [p for p in parameters if id(p) in late and p.grad is not None]
        self._epoch = owners.epoch(), policy_epoch()
        self._frozen: list[torch.Tensor] = []
        self.per_rank: list[torch.Tensor] = []
        """Those that are trained and have a value per rank."""
        self._orphans: list[tuple[torch.Tensor, VariableSpec]] = []
        owned: dict[Owner, list[torch.Tensor]] = {}
        in_ddp = cache(ddp_parameters)  # looked for at most once, and nearly never
        for p, spec in zip(parameters, specs_of(parameters), strict=True):
            owner = owners.owner_of(p)
            if not p.requires_grad and spec is not None:
                self._frozen.append(p)
                continue
            if spec is not None and spec.synchronization in _PER_RANK:
                self.per_rank.append(p)
            if owner is not None:
                owned.setdefault(owner, []).append(p)
            elif spec is not None and _is_neglected(p, spec, in_ddp):
                self._orphans.append((p, spec))
        self._owned: list[tuple[Callable[[], Owner | None], frozenset[int], torch.Tensor]] = [
            (weakref.ref(owner), frozenset(map(id, theirs)), theirs[0])
            for owner, theirs in owned.items()
        ]

    def fits(self) -> bool:
        """Return whether this is still so of the same parameters."""
        return self._epoch == (owners.epoch(), policy_epoch()) and not any(
            map(_is_trained, self._frozen)
        )

    def check(self) -> None:
        """Raise if the optimizer is about to write what nobody has reduced.

        Raises:
            DistributedError: It is; nothing is written.
        """
        late, self._late = self._late, []
        if late:
            raise _came_late([_name(p) for p in late])
        for p, spec in self._orphans:
            if p.grad is not None:
                raise _neglected(p, spec)
        in_backward = current_graph_task() != -1
        for reference, keys, one in self._owned:
            owner = reference()
            if owner is None:
                continue
            if in_backward:
                owner.refuse_step_in_backward(one)
            elif past := owner.came_past(keys):
                raise _came_late(past)
            else:
                owner.before_step(keys)


def _is_neglected(
    parameter: torch.Tensor, spec: VariableSpec, in_ddp: Callable[[], set[int]]
) -> bool:
    """Return whether a variable that nobody of ours owns asks for somebody."""
    if spec.synchronization in _PER_RANK:
        # Who overwrites or cuts up, and averages, what is to differ.
        return id(parameter) in in_ddp() or is_sharded_by_fsdp(parameter)
    if spec.process_group is not None:
        group = spec.group()
        return dist.get_rank(group) >= 0 and dist.get_world_size(group) > 1
    return spec.aggregation in _ASKS


def _name(parameter: torch.Tensor) -> str:
    (spec,) = specs_of([parameter])
    # By its name in a model first: what it was made as may be no more than "Variable".
    return full_name(parameter, "") or ("?" if spec is None else spec.name)


def _neglected(parameter: torch.Tensor, spec: VariableSpec) -> DistributedError:
    name = _name(parameter)
    instead = (
        "Before somebody wraps the model, write torchcreator.distributed.prepare(model) (for "
        "accelerate, Trainer, Lightning, Fabric, or a DDP of your own); or wrap it with "
        "torchcreator.distributed.data_parallel(model), or call aggregate_gradients(model)."
    )
    if spec.synchronization in _PER_RANK:
        if is_sharded_by_fsdp(parameter):
            return DistributedError(
                f"Variable {name!r} has a value per rank ({spec.synchronization.name}), and FSDP2 "
                "has sharded it.",
                "It is one value of which each rank has a part, and its gradient is averaged. "
                "Nothing is written yet in this step.",
                "Pass ignored_params=torchcreator.distributed.per_rank_parameters(model) to every "
                "fully_shard() call, and call aggregate_gradients(model).",
            )
        return DistributedError(
            f"Variable {name!r} has a value per rank ({spec.synchronization.name}), and is in the "
            "hands of a DistributedDataParallel that does not know of it.",
            "It has overwritten the value with rank 0's and averages the gradient. Nothing is "
            "written yet in this step.",
            instead,
        )
    policy = spec.aggregation.name
    asked = f"the aggregation {policy}" if spec.process_group is None else "a group of its own"
    return DistributedError(
        f"Variable {name!r} declares {asked}, and nobody carries that out.",
        "Its gradient is this rank's own, or what another host made of it. Nothing is written "
        "yet in this step.",
        instead,
    )


def per_rank_averaged(parameter: torch.Tensor) -> DistributedError:
    """Return what to raise where a value per rank is about to be averaged over all ranks."""
    return DistributedError(
        f"Variable {_name(parameter)!r} has a value per rank, and PostLocalSGDOptimizer averages "
        "all parameters that it holds.",
        "The ranks' values would become one. Nothing is written yet in this step.",
        "Give such variables an optimizer of their own.",
    )


def refuse_overlap(parameters: Sequence[torch.Tensor]) -> None:
    """Raise if a ZeroRedundancyOptimizer that overlaps with DDP has what DDP leaves out.

    Raises:
        DistributedError: It has, and would leave that as it is, without a word.
    """
    for p, spec in zip(parameters, specs_of(parameters), strict=True):
        per_rank = spec is not None and spec.synchronization in _PER_RANK
        if p.requires_grad and spec is not None and (per_rank or spec.process_group is not None):
            raise DistributedError(
                f"Variable {_name(p)!r} has a "
                + ("value per rank" if per_rank else "process group of its own")
                + ", and ZeroRedundancyOptimizer overlaps with DDP.",
                "With overlap_with_ddp=True it steps what is in DDP's buckets, inside the "
                "backward, and nothing else: DDP leaves such a variable out.",
                "Leave overlap_with_ddp out, or give such variables an optimizer of their own.",
            )


def _came_late(names: Iterable[str]) -> DistributedError:
    first, *others = names
    more = f" and of {len(others)} more" if others else ""
    return DistributedError(
        f"The gradient of variable {first!r}{more} arrived without its aggregation.",
        "The parameter was replaced, converted, thawed or added since its policies were set up, "
        "and its backward ran without a call of the module itself. Nothing is written yet.",
        "Drop this gradient with zero_grad() and go on: the aggregation is in place again.",
    )
