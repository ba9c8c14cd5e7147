"""How many ranks still take part, in a DDP's ``join()``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from torchcreator._torch import mode_stack
from torchcreator._torch.dispatch import OpOverload, schema_of


class _FirstSum(mode_stack.OwnMode):
    """Keeps the tensor that the first all-reduce brings, and what to wait for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total: torch.Tensor | None = None
        self.work: Any = None

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.total is None and schema_of(func).name == "c10d::allreduce_":
            (self.total,), self.work = args[0], result[1]
        return result

    def __call__(self) -> int:
        """Return the total; it waits for it."""
        assert self.total is not None, "a forward of DDP in join() begins with an all-reduce"
        self.work.wait()
        return int(self.total.item())


def count_in_join(ddp: DistributedDataParallel) -> Callable[[], int]:
    """Return a function that returns how many ranks take part in the forward that begins.

    In ``join()`` each rank that still has data says so at the beginning of a forward, by an
    all-reduce of a one, and DDP divides by the sum. It does not tell the sum, so this looks at what
    goes over the wire until the wrapped module is called.
    """
    counting = mode_stack.share(_FirstSum, mode_stack.depth())

    def stop(module: object, args: object) -> None:
        handle.remove()
        mode_stack.leave(counting)

    handle = ddp.module.register_forward_pre_hook(stop, prepend=True)
    return counting
