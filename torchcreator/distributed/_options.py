"""What the entry points take besides a model: refused before anything is touched."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.parallel import DistributedDataParallel

from torchcreator._errors import DistributedError, VariableTypeError, did_you_mean, shown

# With these, DDP reduces some gradients around its communication hook, by their mean.
_AROUND_THE_HOOK = ("delay_all_reduce_named_params", "param_to_hook_all_reduce")


def refuse_other_than_module(function: str, model: object) -> None:
    """Raise for what is no model, a class for instance."""
    if not isinstance(model, nn.Module):
        raise VariableTypeError(
            f"{function} got {shown(model)} for a model.",
            "It works on the parameters of a torch.nn.Module.",
            "Pass the model itself.",
        )


def refuse_other_than_group(function: str, group: object) -> None:
    """Raise for what is no process group that this process is in."""
    if group is None or isinstance(group, dist.ProcessGroup):
        return
    if group is dist.GroupMember.NON_GROUP_MEMBER:
        raise DistributedError(
            f"{function} got a group that this process is not in.",
            "Only a group's own ranks can train a model over it.",
            "Call it on the ranks of the group only.",
        )
    raise VariableTypeError(
        f"{function} got process_group={shown(group)}.",
        "Gradients are reduced over a group of torch.distributed.",
        "Pass what torch.distributed.new_group(...) returned, or None for the default group.",
    )


def refuse_other_than_wire(function: str, compress: object, *, hooks: bool) -> None:
    """Raise for a dtype that gradients cannot be added in, and for what DDP calls as no hook."""
    if compress is None:
        return
    if isinstance(compress, torch.dtype):
        fits = compress.is_floating_point and compress.itemsize > 1
    else:
        fits = hooks and _is_hook(compress)
    if not fits:
        raise VariableTypeError(
            f"{function} got compress={shown(compress)}.",
            "Gradients are cast to it and added up, in a floating dtype of two bytes at least."
            + (" DDP calls a hook as hook(state, bucket)." if hooks else ""),
            "Pass torch.bfloat16 or torch.float16"
            + (", a communication hook or (state, hook)" if hooks else "")
            + "; or None.",
        )


def _is_hook(compress: object) -> bool:
    """Return whether this is a hook of DDP's, alone or with its state."""
    hook = compress
    if isinstance(compress, tuple):
        if len(compress) != 2:
            return False
        hook = compress[1]
    if not callable(hook):
        return False
    try:
        return "bucket" in inspect.signature(hook).parameters  # by this name DDP looks it up
    except Exception:  # whatever a callable's own __signature__ may raise
        return False


def refuse_other_options(function: str, options: Mapping[str, object]) -> None:
    """Raise for an option that DDP does not have, or that takes gradients past the policies."""
    known = [*inspect.signature(DistributedDataParallel).parameters][1:]
    for name, value in options.items():
        if name not in known:
            raise VariableTypeError(
                f"{function} got an unexpected option {name!r}{did_you_mean(name, known)}.",
                f"Besides its own, it takes those of DistributedDataParallel: {', '.join(known)}.",
                "Correct the option, or leave it out.",
            )
        if name in _AROUND_THE_HOOK and value is not None:
            raise DistributedError(
                f"{function} got {name}={shown(value)}.",
                "DDP averages such gradients by themselves, whatever their policy is.",
                "Leave it out, or declare synchronization='none' and reduce them yourself.",
            )
    refuse_other_than_mesh(function, options.get("device_mesh"))


def refuse_other_than_mesh(function: str, mesh: object) -> None:
    """Raise for what does not name the ranks in a row."""
    if mesh is not None and not (isinstance(mesh, DeviceMesh) and mesh.ndim == 1):
        raise VariableTypeError(
            f"{function} got device_mesh={shown(mesh)}.",
            "DDP trains over a mesh of one dimension.",
            "Pass a DeviceMesh, mesh['dp'] of a larger one, say; or process_group=.",
        )
