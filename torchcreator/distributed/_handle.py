"""A model's gradient policies in force: what is in whose hands, and who is asked for it."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from torchcreator._access.collectives import World
from torchcreator._errors import DistributedError
from torchcreator._optim import owners
from torchcreator._torch.hosts import current_graph_task, joins, steps_in_backward
from torchcreator.distributed._buckets import Reducer, stepped_in_backward
from torchcreator.distributed._equal_ranks import EqualRanks
from torchcreator.distributed._policy import Managed, reduced
from torchcreator.distributed._structure import Structure
from torchcreator.distributed._transport import Transport


class Watcher(Protocol):
    """What looks at a model before each of its forwards, and lives as long as it does."""

    structure: Structure | None


def _clear(transport: Transport, reducer: Reducer, equal_ranks: EqualRanks) -> None:
    transport.remove()
    reducer.remove()
    equal_ranks.remove()
    owners.announce_change()


class GradientAggregation:
    """The gradient policies of one model, in force until `remove`.

    It need not be kept: it lives as long as the model. It follows what the model becomes: before
    each forward it takes notice of parameters that were thawed, replaced, added or converted.

    Example:
        >>> import torch, torch.distributed as dist, torchcreator as tc
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> model = torch.nn.Linear(2, 3)
        >>> aggregation = tc.distributed.aggregate_gradients(model)
        >>> with aggregation.no_sync():
        ...     model(torch.ones(1, 2)).sum().backward()
        >>> aggregation.remove()
        >>> dist.destroy_process_group()
    """

    def __init__(
        self, model: nn.Module, transport: Transport, world: World, wire: torch.dtype | None = None
    ) -> None:
        # Weak: what is kept for as long as the model lives must not keep the model alive.
        self._model = weakref.ref(model)
        self.transport = transport
        self._world = world
        self._equal_ranks = EqualRanks(world)
        self._reducer = Reducer(world, wire, after=transport.after(self._equal_ranks))
        self._owned: dict[int, Managed] = {}
        self._elsewhere: list[weakref.ref[GradientAggregation]] = []
        self._epoch = -1
        self._watch: Callable[[], Watcher | None] = lambda: None
        self._hook: RemovableHandle | None = None
        # Through autograd's nodes, which hold parameters, the garbage collector does not see.
        parts = transport, self._reducer, self._equal_ranks
        weakref.finalize(self, _clear, *parts).atexit = False

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Let backwards in the block accumulate on this rank only; the next one outside reduces.

        Forward and backward both belong inside, as with ``DistributedDataParallel.no_sync``.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.transport.no_sync())
            stack.enter_context(self._reducer.no_sync())
            for other in filter(None, [reference() for reference in self._elsewhere]):
                stack.enter_context(other.no_sync())
            yield

    def remove(self) -> None:
        """Take the policies away.

        DDP and FSDP2 go on averaging, as they always did; a plain module stops communicating.
        """
        if self._hook is not None:
            self._hook.remove()
        self.give_way()

    def give_way(self) -> None:
        """Reduce nothing any more; somebody else does."""
        _clear(self.transport, self._reducer, self._equal_ranks)
        self._owned = {}
        owners.unregister(self)

    def put_in_force(self, watch: Watcher, hook: RemovableHandle) -> None:
        """Reduce from now on.

        Args:
            watch: What calls `look` before each forward of the model, and keeps this.
            hook: What removes it.
        """
        self._watch, self._hook = weakref.ref(watch), hook
        owners.register(self)
        self.look()
        for other in owners.owners():  # they give up what a DDP has taken
            if other is not self and any(map(other.owns, self.parameters())):
                other.look()

    def owns(self, parameter: torch.Tensor) -> bool:
        """Return whether it is this one who reduces a parameter's gradient."""
        return id(parameter) in self._owned  # which keeps it alive, so that ids are not given again

    @property
    def is_wrapper(self) -> bool:
        """Whether a DDP reduces for it that still exists."""
        return isinstance(self._model(), DistributedDataParallel)

    def parameters(self) -> list[torch.Tensor]:
        """Return those whose gradient it reduces."""
        return [m.parameter for m in self._owned.values()]

    def look(self) -> list[torch.Tensor]:
        """Take notice of what has changed in the model, and return what it owns since now."""
        model, watch = self._model(), self._watch()
        if model is None or watch is None or current_graph_task() != -1:
            return []
        self._reducer.synchronises = self.transport.synchronises()
        self._refuse_beside_join(model)
        if (
            self.transport.look()
            or self._epoch != owners.epoch()
            or watch.structure is None
            or not watch.structure.holds()
            or self._reducer.lost()
        ):
            new = self._take(model)
            watch.structure = Structure(model)
            return new
        self._reducer.renew()
        return []

    def _refuse_beside_join(self, model: nn.Module) -> None:
        if len(self._reducer) and isinstance(model, DistributedDataParallel) and joins(model):
            one = next(m for m in self._owned.values() if not self.transport.holds(m.parameter))
            raise DistributedError(
                f"Variable {one.name!r} is reduced beside DDP, and DDP is or was in join().",
                "A rank that has no data left takes part in what DDP sends, and in nothing else: "
                "the others would wait for it.",
                "Give all ranks as many batches, or the variable no process group of its own.",
            )

    def _take(self, model: nn.Module) -> list[torch.Tensor]:
        """Own what nobody else does, as the model is now."""
        managed = self.transport.survey(model)
        self._elsewhere = []
        mine = [m for m in managed if not m.per_rank and self._is_mine(m)]
        held = [m for m in mine if self.transport.holds(m.parameter)]
        rest = [m for m in reduced(mine) if not self.transport.holds(m.parameter)]
        for m in rest:
            if steps_in_backward(m.parameter):
                raise stepped_in_backward(m.name)
        self.transport.take(held)
        self._reducer.take(rest)
        self._equal_ranks.take(managed)
        before = self._owned
        self._owned = {id(m.parameter): m for m in (*held, *rest)}
        if before.keys() != self._owned.keys():
            owners.announce_change()
        self._epoch = owners.epoch()
        return [m.parameter for key, m in self._owned.items() if key not in before]

    def _is_mine(self, m: Managed) -> bool:
        other = owner_besides(self, m.parameter)
        if other is None or (
            self.transport.holds(m.parameter) and not other.transport.holds(m.parameter)
        ):
            return True
        if not m.has_own_group and other._ranks() != self._ranks():
            raise DistributedError(
                f"Variable {m.name!r} is reduced already, over the ranks {other._ranks()}.",
                f"Here it would be reduced over the ranks {self._ranks()}, and twice.",
                "Give a parameter that two models share the same process group in both.",
            )
        if all(reference() is not other for reference in self._elsewhere):
            self._elsewhere.append(weakref.ref(other))
        return False

    def _ranks(self) -> list[int]:
        return dist.get_process_group_ranks(self._world.group)

    def before_step(self, keys: frozenset[int]) -> None:
        """Make sure that its parameters, by their ids, have equal gradients on all ranks."""
        self._equal_ranks.before_step(keys)

    def came_past(self, keys: frozenset[int]) -> list[str]:
        """Return the names of its parameters, by their ids, whose gradient did not pass it."""
        past = [*self.transport.came_past(keys), *self._reducer.came_past(keys)]
        names = [self._owned[key].name for key in past if key in self._owned]
        if names:
            self._epoch = -1  # so that it puts everything back
            self.look()
        return names

    def refuse_step_in_backward(self, parameter: torch.Tensor) -> None:
        """Raise if the gradient of its parameter is not reduced before the backward's end."""
        if self._world.size > 1 and not self.transport.final_in_backward:
            raise stepped_in_backward(self._owned[id(parameter)].name)


def owner_besides(
    host: GradientAggregation | None, parameter: torch.Tensor
) -> GradientAggregation | None:
    """Return another one who reduces a parameter's gradient."""
    for other in owners.owners():
        if other is not host and isinstance(other, GradientAggregation) and other.owns(parameter):
            return other
    return None
