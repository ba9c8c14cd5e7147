"""The norm of all gradients, where some are shared and others are each rank's own."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import nn

from torchcreator._access.collectives import World, told_apart
from torchcreator._torch.dtensor import is_sharded
from torchcreator.distributed import _options
from torchcreator.distributed._policy import Managed, survey


@torch.no_grad()
def clip_grad_norm_(
    model: nn.Module,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
    *,
    process_group: dist.ProcessGroup | None = None,
) -> torch.Tensor:
    """Clip the gradients of a model by one norm, which is the same on all ranks.

    ``torch.nn.utils.clip_grad_norm_`` takes the norm of what a rank holds. With values per rank
    that differs between ranks, so each would scale the shared gradients by another factor. Here

        total = (sum over shared ‖g‖^p + sum over ranks r, own of r ‖g_r‖^p)^(1/p)

    counts a shared gradient once and each rank's own ones as the parts of one model that they are;
    a variable with a process group of its own counts once for that group. For ``p`` infinite it is
    the greatest of all. Everything is multiplied by ``min(1, max_norm / (total + 1e-6))``, as
    torch does it. Shards of FSDP2 count whole. Every rank must call it; it sends one number.

    Args:
        model: A module, wrapped, sharded or plain, after its backward.
        max_norm: The greatest norm that is left.
        norm_type: The ``p`` of the norm; may be ``math.inf``.
        error_if_nonfinite: Whether a total that is no finite number is an error.
        foreach: Whether to use torch's faster form; None where it is possible.
        process_group: The ranks that train the model together; None means the default group.

    Returns:
        The total norm before clipping.

    Raises:
        RuntimeError: The total is not finite, and ``error_if_nonfinite`` says so; torch's own.
        DistributedError: A rank did not take part.

    Example:
        >>> import torch, torchcreator as tc
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> model(torch.full((1, 1), 3.0)).backward()
        >>> tc.distributed.clip_grad_norm_(model, 1.0).item()
        3.0
        >>> round(model.weight.grad.item(), 3)
        1.0
    """
    _options.refuse_other_than_module("clip_grad_norm_()", model)
    world = World.of(process_group)
    managed = [m for m in survey(model) if m.parameter.grad is not None]
    shared = [m.parameter.grad for m in managed if not (m.per_rank or m.has_own_group)]
    whole = _norm([g for g in shared if g is not None], norm_type, foreach)
    own = [
        _norm([m.parameter.grad], norm_type, foreach) / _times_counted(m, norm_type)
        for m in managed
        if (m.per_rank or m.has_own_group) and m.parameter.grad is not None
    ]
    device = next((m.parameter.device for m in managed), world.device)
    parts = _powers([norm.to(device) for norm in own], norm_type, device)
    if world.size > 1:
        operation = dist.ReduceOp.MAX if math.isinf(norm_type) else dist.ReduceOp.SUM
        with told_apart("The norm of all gradients could not be brought together", world):
            dist.all_reduce(parts, op=operation, group=world.group)
    total = _total(whole.to(device), parts, norm_type)
    if error_if_nonfinite and not bool(total.isfinite()):
        message = (
            f"The total norm of order {norm_type} for gradients is non-finite, so it cannot be "
            "clipped. Leave error_if_nonfinite out to scale the gradients all the same."
        )
        raise RuntimeError(message)
    parameters = [m.parameter for m in managed]
    for kind in (True, False):  # torch does not mix shards with others
        some = [p for p in parameters if is_sharded(p) is kind]
        if some:
            nn.utils.clip_grads_with_norm_(some, max_norm, total, foreach)
    return total


def _times_counted(m: Managed, norm_type: float) -> float:
    """Return by what a norm is divided that several ranks bring along for one variable."""
    if m.per_rank or math.isinf(norm_type):
        return 1.0
    return float(m.world(World(None, 0, 1)).size ** (1 / norm_type))


def _norm(gradients: list[torch.Tensor], norm_type: float, foreach: bool | None) -> torch.Tensor:
    """Return the norm of gradients, those in shards whole."""
    norms = []
    for kind in (True, False):
        some = [g for g in gradients if is_sharded(g) is kind]
        if some:
            norm = nn.utils.get_total_norm(some, norm_type, foreach=foreach)
            norms.append(norm.full_tensor() if is_sharded(norm) else norm)
    if not norms:
        return torch.zeros(())
    total: torch.Tensor = torch.linalg.vector_norm(torch.stack(norms), norm_type)
    return total


def _powers(norms: list[torch.Tensor], norm_type: float, device: torch.device) -> torch.Tensor:
    if not norms:
        return torch.zeros((), device=device)
    stacked = torch.stack([norm.float() for norm in norms])
    return stacked.max() if math.isinf(norm_type) else (stacked**norm_type).sum()


def _total(whole: torch.Tensor, parts: torch.Tensor, norm_type: float) -> torch.Tensor:
    if math.isinf(norm_type):
        return torch.maximum(whole.float(), parts)
    total: torch.Tensor = (whole.float() ** norm_type + parts) ** (1 / norm_type)
    return total
