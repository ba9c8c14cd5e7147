"""What `aggregate_gradients` returns, and where it is kept."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from torchcreator._errors import DistributedError
from torchcreator.distributed._arrivals import ArrivalSet
from torchcreator.distributed._buckets import Reducer


class GradientAggregation:
    """The gradient policies of one model, in force until `remove`.

    It need not be kept: it lives as long as the model.

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
        self,
        arrivals: list[ArrivalSet],
        reducer: Reducer | None,
        host_no_sync: Callable[[], AbstractContextManager[object]] | None,
    ) -> None:
        self._arrivals = arrivals
        self._reducer = reducer
        self._host_no_sync = host_no_sync
        self._hook: RemovableHandle | None = None

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Let backwards in the block accumulate on this rank only; the next one outside reduces.

        Forward and backward both belong inside, as with ``DistributedDataParallel.no_sync``.
        """
        with contextlib.ExitStack() as stack:
            if self._host_no_sync is not None:
                stack.enter_context(self._host_no_sync())
            if self._reducer is not None:
                stack.enter_context(self._reducer.no_sync())
            yield

    def remove(self) -> None:
        """Take the policies away.

        DDP and FSDP2 go on averaging, as they always did; a plain module stops communicating.
        """
        if self._hook is not None:
            self._hook.remove()
        for arrivals in self._arrivals:
            arrivals.remove()
        if self._reducer is not None:
            self._reducer.remove()

    def _watch(self, model: nn.Module) -> None:
        """Look for converted parameters before each forward of the model."""
        self._hook = model.register_forward_pre_hook(renew_before_forward)

    def _renew(self) -> None:
        """Put back the policies of parameters that were converted since."""
        for arrivals in self._arrivals:
            arrivals.renew()


# Autograd and DDP hold what carries the policies out only weakly, or not at all.
_kept: weakref.WeakKeyDictionary[nn.Module, object] = weakref.WeakKeyDictionary()


def keep(model: nn.Module, what: object) -> None:
    """Keep what carries a model's policies out for as long as the model lives."""
    _kept[model] = what
    if isinstance(what, GradientAggregation):
        what._watch(model)


def release(model: nn.Module) -> None:
    """End what an earlier call installed, so that nothing is reduced or multiplied twice.

    Raises:
        DistributedError: `data_parallel` did, and what DDP has taken it does not give back.
    """
    former = _kept.pop(model, None)
    if isinstance(former, GradientAggregation):
        former.remove()
    elif former is not None:
        _kept[model] = former
        raise DistributedError(
            f"The {type(model).__name__} has its policies from data_parallel() already.",
            "They would be applied twice.",
            "Leave aggregate_gradients() out.",
        )


def renew_before_forward(model: nn.Module, args: object) -> None:
    """Look for converted parameters before each forward of a model with policies.

    A function of this module, not a closure, so that the model can still be pickled; in a copy of
    the model, which has no policies in force, it does nothing.
    """
    if torch.compiler.is_compiling():
        return  # traced into the graph as nothing
    aggregation = _kept.get(model)
    if isinstance(aggregation, GradientAggregation):
        aggregation._renew()
