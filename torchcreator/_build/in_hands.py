"""Who else has a finished model's parameters, and what therefore cannot be changed any more."""

from __future__ import annotations

import gc
from collections.abc import Collection, Sequence

import torch
import torch.distributed as dist
from torch import nn

from torchcreator._build.finished_parameter import FinishedTarget
from torchcreator._build.references import unwritable
from torchcreator._errors import BuildError, DistributedError
from torchcreator._optim.owners import owner_of
from torchcreator._recorder.live_tensors import reached
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.live_modules import full_name, holders
from torchcreator._torch.hosts import (
    all_sharded_parameters,
    ddp_parameters,
    is_fully_sharded,
    optimizer_with,
    sharded_parameters,
    sharding_host,
)

_PLAIN = (None, VariableSynchronization.AUTO, VariableAggregation.NONE, None, None, {"names": 0})
_SET_UP = ("trainable", "synchronization", "aggregation", "process_group")
"""What a host sets up for."""


def refuse_gathered(modules: Collection[nn.Module], targets: Sequence[FinishedTarget]) -> None:
    """Refuse a model whose sharded parameters are elsewhere, or gathered just now."""
    host = sharding_host(modules)
    if host is None:
        return
    known = {id(target.parameter) for target in targets}
    if host == "fully_shard":
        held = (p for m in modules if is_fully_sharded(m) for p in sharded_parameters(m))
        if all(id(parameter.sharded) in known for parameter in held):
            return
    raise BuildError(
        f"recreate() met a model that {host} has sharded, and whose parameters are not its shards.",
        "They are gathered for a forward, or views of a flat one: what would be written is lost.",
        "Recreate the model before it is sharded; with fully_shard, after model.reshard().",
    )


def refuse_in_hands(targets: Sequence[FinishedTarget]) -> None:
    """Refuse what an optimizer or a host that has a parameter would not learn of."""
    remade = [(t, what) for t in targets if (what := _remade(t)) is not None]
    if remade:
        _refuse_optimized(remade)
    declared = [(t, word) for t in targets if (word := declared_otherwise(t)) is not None]
    changed = [*remade, *declared]
    if not changed or not (dist.is_available() and dist.is_initialized()):
        return
    in_ddp, started = ddp_parameters(), _started()
    for target, what in changed:
        key, host = id(target.parameter), None
        if owner_of(target.parameter) is not None:
            host = "torchcreator.distributed"
        elif key in in_ddp:
            host = "DistributedDataParallel"
        elif what == "trainable" and key in started:
            host = "fully_shard"
        if host is not None:
            raise DistributedError(
                f"recreate() was to change the {what} of {target.name!r}, which {host} reduces.",
                "That was set up for what the parameter was when the model was wrapped.",
                "Recreate the model first, and wrap it then.",
            )


def _started() -> set[int]:
    """Return the ids of parameters of which FSDP2 has gathered the whole before, as they were."""
    return {id(p.sharded) for p in all_sharded_parameters() if p.whole is not None}


def refuse_scripted(changed: Sequence[FinishedTarget]) -> None:
    """Refuse what a scripted module, whose parameters live in C++, would not keep."""
    for target in changed:
        if not isinstance(target.module, torch.jit.ScriptModule):
            continue
        spec = target.spec
        # As a spec has them: constraint, policies, caching_device, process_group, tags.
        plain = spec is None or (*spec[4:9], {**spec.tags, "names": 0}) == _PLAIN
        if target.returned is not target.parameter or not plain:
            raise BuildError(
                f"{target.name!r} is in a {type(target.module).__name__}, and more was decided of "
                "it than trainable, dtype, device and value.",
                "Its parameters live in C++: they cannot be exchanged, and nothing is declared.",
                "Recreate the model before it is scripted.",
            )


def refuse_elsewhere(inside: Collection[int], replaced: Sequence[FinishedTarget]) -> None:
    """Refuse to replace what a module outside the model has too: they would be tied no more.

    Args:
        inside: The ids of the model's modules.
        replaced: What is to be replaced.
    """
    outside = _outside(inside, replaced)
    if outside:
        del outside
        gc.collect()  # one that nobody has any more does not count
        for module in _outside(inside, replaced):
            tied = {id(parameter) for parameter in module._parameters.values()}
            target = next(t for t in replaced if id(t.parameter) in tied)
            outer = full_name(target.parameter, target.name)
            raise BuildError(
                f"A creator returned a parameter of its own for {target.name!r}, which a "
                f"{type(module).__name__} outside the model has too: {outer!r}, say.",
                "There it would stay the old one, and the two would be tied no more.",
                "Recreate the whole, of which both are parts; or keep the parameter: return what "
                "next_creator(**kwargs) returned.",
            )


def _outside(inside: Collection[int], replaced: Sequence[FinishedTarget]) -> list[nn.Module]:
    found = holders([target.parameter for target in replaced])
    return [module for module in found if id(module) not in inside]


def refuse_unwritable(model: nn.Module, replaced: Sequence[FinishedTarget]) -> None:
    """Refuse to replace what the model has where it cannot be exchanged."""
    found = unwritable([target.parameter for target in replaced], reached([model]))
    if found is not None:
        parameter, holder = found
        name = next(t.name for t in replaced if t.parameter is parameter)
        raise BuildError(
            f"A creator returned a parameter of its own for {name!r}, which the model has in a "
            f"{type(holder).__qualname__} too.",
            "What that has cannot be exchanged from Python: it would stay the old one.",
            "Keep the parameter: return what next_creator(**kwargs) returned; or let the model "
            "have it in an attribute.",
        )


def _remade(target: FinishedTarget) -> str | None:
    """Return what has become of a parameter that is not what an optimizer has, in a word."""
    old, new = target.old, target.returned
    if new is not target.parameter:
        return "parameter"
    if old is None or not target.converted:
        return None
    return "dtype" if old.dtype != new.dtype else "device"


def declared_otherwise(target: FinishedTarget) -> str | None:
    """Return what a host sets up for and a parameter declares otherwise now, by its keyword."""
    handed, spec = target.handed, target.spec
    if handed is None or spec is None:
        return None
    return next((w for w in _SET_UP if getattr(handed, w) is not getattr(spec, w)), None)


def _refuse_optimized(remade: Sequence[tuple[FinishedTarget, str]]) -> None:
    by_id: dict[int, tuple[FinishedTarget, str]] = {id(t.parameter): (t, w) for t, w in remade}
    found = optimizer_with(by_id)
    if found is None:
        return
    optimizer, parameter = found
    target, what = by_id[id(parameter)]
    old, new = target.old, target.returned
    assert isinstance(new, torch.Tensor)
    became = {
        "parameter": "replaced",
        "dtype": f"converted from {parameter.dtype if old is None else old.dtype} to {new.dtype}",
        "device": f"moved from {parameter.device if old is None else old.device} to {new.device}",
    }
    raise BuildError(
        f"{target.name!r} would be {became[what]}, and an optimizer has it: "
        f"{type(optimizer).__name__}.",
        "What it keeps of each parameter belongs to the one that it was made with.",
        "Recreate the model first, and make the optimizer then.",
    )
