"""Data parallelism on ``DistributedDataParallel``, with a policy per parameter."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchcreator._access.collectives import World
from torchcreator._errors import DistributedError, TorchCreatorError, shown
from torchcreator._torch.hosts import ignore_in_ddp
from torchcreator.distributed._comm_hook import BucketReduction
from torchcreator.distributed._handle import owner_besides
from torchcreator.distributed._policy import Managed


@contextlib.contextmanager
def wrapped(
    model: nn.Module, managed: list[Managed], ignored: list[str], **ddp_kwargs: Any
) -> Iterator[DistributedDataParallel]:
    """Give the model in DDP, which neither broadcasts nor reduces what is ignored.

    An error, of DDP's or of the block, leaves no trace of it on the model.
    """
    if not any(m.parameter.requires_grad for m in managed if not set(m.names) & set(ignored)):
        raise DistributedError(
            f"{type(model).__name__} has no parameter for DistributedDataParallel.",
            "All of its parameters are frozen, or have a value per rank or a process group of "
            "their own, and DDP refuses a module without any.",
            "Use aggregate_gradients(model) instead, which takes any module.",
        )
    undo = ignore_in_ddp(model, set(ignored))
    try:
        yield DistributedDataParallel(model, **ddp_kwargs)
    except BaseException as error:
        undo()
        if isinstance(error, TorchCreatorError) or not isinstance(error, Exception):
            raise
        given = {name: value for name, value in ddp_kwargs.items() if value is not None}
        raise DistributedError(
            f"DistributedDataParallel refused {type(model).__name__} with the options "
            f"{shown(given)}.",
            f"It raised {type(error).__name__}: {_first_line(error)}",
            "Correct the options or the model. Where another rank has died, look at its output.",
        ) from error


def _first_line(error: Exception) -> str:
    """Return the first line of what an error says, which is not always text."""
    try:
        line = str(error).partition("\n")[0]
    except Exception:  # whatever is wrong with it, the message is about something else
        line = ""
    return line[:300] or "nothing more"


def spellings(managed: list[Managed]) -> Iterator[str]:
    """Yield every name under which DDP may look for one of these parameters in its ignore list."""
    for m in managed:
        for name in m.names:
            yield name
            if "." not in name:
                # DDP joins module and parameter name with a dot even where the module is the
                # root: without this spelling it still reduces, without the other it broadcasts.
                yield f".{name}"


def ignores(ddp: DistributedDataParallel, m: Managed) -> bool:
    """Return whether a DDP neither broadcasts nor reduces a parameter."""
    return ddp.parameters_to_ignore.issuperset(spellings([m]))


def refuse_mixed_precision(function: str, mixed_precision: object) -> None:
    """Raise where DDP is to compute in another dtype than it stores."""
    if mixed_precision is None:
        return
    raise DistributedError(
        f"{function} was given a DDP with mixed_precision={shown(mixed_precision)}.",
        "DDP's mixed precision takes its only communication hook, and gives each parameter another "
        "dtype, and so another autograd node, in every forward: the policies would get lost there.",
        "Compute in torch.autocast(), and let gradients travel in data_parallel(model, "
        "compress=torch.bfloat16); or use fully_shard() with its MixedPrecisionPolicy.",
    )


def refuse_two(managed: list[Managed]) -> None:
    """Raise if another DDP has one of the parameters already.

    Raises:
        DistributedError: It has, and is still there.
    """
    for m in managed:
        other = owner_besides(None, m.parameter)
        if other is not None and other.is_wrapper:
            other = None
            gc.collect()  # a DDP that is gone may wait for it
            if (other := owner_besides(None, m.parameter)) is not None and other.is_wrapper:
                raise DistributedError(
                    f"Variable {m.name!r} is in the hands of another DistributedDataParallel.",
                    "Both would reduce its gradient, and neither knows of the other.",
                    "Wrap a model once; delete the first before you wrap it anew.",
                )


def install(
    ddp: DistributedDataParallel, managed: list[Managed], world: World, wire: torch.dtype | None
) -> BucketReduction:
    """Give a DDP the comm hook that carries the policies out, and return what has to be kept."""
    reduction = BucketReduction(ddp, managed, world=world, wire=wire)
    ddp.register_comm_hook(HookState(reduction), reduce_bucket)
    return reduction


class HookState:
    """What DDP hands to its communication hook, and a copy or a pickle of the DDP does not have."""

    def __init__(self, reduction: BucketReduction | None = None) -> None:
        self.reduction = reduction

    def __reduce__(self) -> tuple[type[HookState], tuple[()]]:
        return HookState, ()


def reduce_bucket(state: Any, bucket: Any) -> Any:
    """Reduce one bucket of a DDP: its communication hook."""
    return state.reduction.reduce(bucket)


# DDP looks at a hook's annotations and compares them as objects, which these, being text, are not.
reduce_bucket.__annotations__.clear()
