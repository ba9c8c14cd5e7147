"""What happens before each forward of a model with policies."""

from __future__ import annotations

import weakref

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchcreator._access.collectives import World
from torchcreator._errors import DistributedError
from torchcreator._spec.enums import VariableAggregation
from torchcreator._torch.hosts import active_ddp
from torchcreator._torch.modules import forward_pre_hooks
from torchcreator.distributed import _ddp
from torchcreator.distributed._fsdp import fsdp_modules
from torchcreator.distributed._handle import GradientAggregation
from torchcreator.distributed._in_ddp import InDDP
from torchcreator.distributed._initial import share
from torchcreator.distributed._policy import survey
from torchcreator.distributed._structure import Structure
from torchcreator.distributed._verify import check_specs


class Watch:
    """Takes notice of what has become of a model, before a forward that may have a backward.

    A forward pre-hook of a model with policies, or of one that was prepared for them. It keeps
    them, so that they live as long as the model and no longer. Inside a DDP that somebody made,
    it sets them up there. A copy of the model, or an unpickled one, has one that knows nothing:
    that of a DDP, which carries on by itself, sets them up anew; a plain module's does nothing.
    """

    def __init__(self) -> None:
        self.aggregation: GradientAggregation | None = None
        self.structure: Structure | None = None
        self._outside: weakref.ref[DistributedDataParallel] | None = None
        # Not a decorator: that would import dynamo, a second, with this module.
        self._not_traced = torch.compiler.disable(_look)

    def __reduce__(self) -> tuple[type[Watch], tuple[()]]:
        return Watch, ()

    def __call__(self, model: nn.Module, args: object) -> None:
        if not torch.is_grad_enabled():
            return
        if not torch.compiler.is_compiling():
            _look(self, model)
        elif self.aggregation is None:
            # Of a compiled model that was prepared: its graph begins behind this.
            self._not_traced(self, model)

    def look(self, model: nn.Module) -> None:
        """Set policies up where they are not in force, and look at the model where they are."""
        outer = active_ddp()
        if outer is not None and kept(outer) is None and _is_in(model, outer):
            if isinstance(model, DistributedDataParallel):
                self._step_back(model, outer)
            attach(outer)
        if self._outside is not None:
            _refuse_alone(outer, self._outside())
        elif self.aggregation is not None:
            self.aggregation.look()
        elif isinstance(model, DistributedDataParallel):
            attach(model)
        elif self.structure is None:
            _refuse_shards(model)
            self.structure = Structure(model)

    def _step_back(self, inner: DistributedDataParallel, outer: DistributedDataParallel) -> None:
        """Let a DDP around a DDP reduce alone: both have their hooks on the same gradients."""
        if self.aggregation is not None:
            self.aggregation.give_way()
        inner.require_backward_grad_sync = False
        self._outside = weakref.ref(outer)


def _look(watching: Watch, model: nn.Module) -> None:
    watching.look(model)


def _is_in(model: nn.Module, outer: nn.Module) -> bool:
    return any(module is model for module in outer.modules())


def _refuse_alone(
    active: DistributedDataParallel | None, outer: DistributedDataParallel | None
) -> None:
    if active is None or active is not outer:
        raise DistributedError(
            "A DistributedDataParallel that another one wraps was called by itself.",
            "The outer one reduces the gradients, and takes no part in this call.",
            "Call the outer one; or wrap the model once.",
        )


def _refuse_shards(model: nn.Module) -> None:
    """Raise where a model that was prepared is in shards, and declares what nobody carries out."""
    if not fsdp_modules(model):
        return
    for m in survey(model):
        if m.per_rank or m.has_own_group or m.declared is not VariableAggregation.NONE:
            raise DistributedError(
                f"Variable {m.name!r} has a policy, and fully_shard() has the model since "
                "prepare().",
                "What prepare() sets up is for a DDP: nobody carries this policy out.",
                "Write aggregate_gradients(model) after fully_shard(model, ignored_params="
                "torchcreator.distributed.per_rank_parameters(model)), and leave prepare() out.",
            )


def watch(model: nn.Module, aggregation: GradientAggregation) -> None:
    """Put policies in force, and look at the model before each of its forwards."""
    watching = Watch()
    watching.aggregation = aggregation
    aggregation.put_in_force(watching, model.register_forward_pre_hook(watching))


def prewatch(model: nn.Module) -> None:
    """Look at a model that nobody has wrapped yet."""
    if not any(isinstance(hook, Watch) for hook in forward_pre_hooks(model).values()):
        model.register_forward_pre_hook(Watch())


def kept(model: nn.Module) -> GradientAggregation | None:
    """Return the policies in force that were set up for a model by itself."""
    for hook in forward_pre_hooks(model).values():
        if isinstance(hook, Watch) and hook.aggregation is not None:
            return hook.aggregation
    return None


def release(model: nn.Module) -> None:
    """End what an earlier call installed, so that nothing is reduced or multiplied twice."""
    for key, hook in list(forward_pre_hooks(model).items()):
        if isinstance(hook, Watch):
            if hook.aggregation is not None:
                hook.aggregation.remove()
            forward_pre_hooks(model).pop(key, None)


def attach(ddp: DistributedDataParallel) -> GradientAggregation:
    """Carry out in a DDP that somebody made what the variables of its model declare.

    Every rank must call it.

    Raises:
        DistributedError: The ranks declare different variables; or the DDP holds a variable that
            is not to be reduced by it, or computes in another dtype than it stores.
    """
    _ddp.refuse_mixed_precision("aggregate_gradients()", ddp.mixed_precision)
    world = World.of(ddp.process_group)
    managed = survey(ddp.module)
    check_specs(managed, world)
    for m in managed:
        if (m.per_rank or m.has_own_group) and not _ddp.ignores(ddp, m):
            raise DistributedError(
                f"Variable {m.name!r} is in the hands of DistributedDataParallel, and "
                + ("has a value per rank." if m.per_rank else "has a process group of its own."),
                "DDP has overwritten it with rank 0's value when it wrapped the model.",
                "Wrap the model with torchcreator.distributed.data_parallel(model) instead, which "
                "keeps such variables out; or write torchcreator.distributed.prepare(model) before "
                "somebody else wraps it.",
            )
    release(ddp)
    held = [m for m in managed if not _ddp.ignores(ddp, m)]
    _ddp.refuse_two(held)
    share([m for m in managed if m.has_own_group], world)
    aggregation = GradientAggregation(ddp, InDDP(ddp, held, world), world)
    watch(ddp, aggregation)
    return aggregation
