"""The entry point for a model that somebody else is going to wrap."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchcreator._errors import DistributedError
from torchcreator._torch.hosts import ignore_in_ddp
from torchcreator._torch.modules import uncompiled
from torchcreator.distributed import _ddp, _fsdp, _options
from torchcreator.distributed._buffers import declared_policies
from torchcreator.distributed._policy import survey
from torchcreator.distributed._watch import prewatch


def prepare(model: nn.Module) -> nn.Module:
    """Let a DDP that somebody else makes carry out what a model's variables declare.

    One line before accelerate, Hugging Face's Trainer, Lightning's Trainer or Fabric, or a line of
    your own wraps the model in ``DistributedDataParallel``. It may come before there is a process
    group, and before the model is moved. It does not communicate. Then:

    - variables with a value per rank, with a process group of their own, and buffers with a policy
      (see `aggregate_buffer`) are kept out of that DDP;
    - before its first forward that may have a backward the ranks compare what they declare, and
      each gradient is from then on reduced as `aggregate_gradients` does it in a DDP.

    Args:
        model: The module that will be wrapped: in Lightning, the ``LightningModule`` itself.

    Returns:
        The same module.

    Raises:
        DistributedError: The model is wrapped or sharded already; from its first forward, it was
            sharded since, and declares what `aggregate_gradients` would carry out.
        VariableTypeError: It is no module.

    Example:
        >>> import torch, torchcreator as tc
        >>> model = torch.nn.Linear(2, 3)
        >>> tc.distributed.prepare(model) is model
        True
    """
    _options.refuse_other_than_module("prepare()", model)
    module = uncompiled(model)
    if isinstance(module, DistributedDataParallel) or _fsdp.fsdp_modules(module):
        raise DistributedError(
            f"prepare() got a {type(module).__name__} that is wrapped or sharded already.",
            "It has to come first: a DDP overwrites values per rank when it wraps a model.",
            "Call aggregate_gradients(model) on it, or prepare(model) before.",
        )
    apart = [m for m in survey(module) if m.per_rank or m.has_own_group]
    names = {*_ddp.spellings(apart), *(name for name, *_ in declared_policies(module))}
    # Whoever compiles the model before wrapping it puts this before every name.
    ignore_in_ddp(module, names | {f"_orig_mod.{name.lstrip('.')}" for name in names})
    prewatch(module)
    return model
