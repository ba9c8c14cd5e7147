"""Parameters that stock modules register inside a scope go through its creators."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from torch import nn
from torch.fx import GraphModule
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from torchcreator._chain.complaints import explain, returned_none, warn_uninitialised
from torchcreator._chain.default import adopt
from torchcreator._chain.open_scopes import Link, Step, innermost_link
from torchcreator._chain.scope import current_chain
from torchcreator._chain.target import reset_target, set_target
from torchcreator._errors import CreatorResultError, shown
from torchcreator._modules import ownership, pinned
from torchcreator._modules.stock_parameter import AUTO, NONE, LoadedTarget, StockTarget
from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.table import OWN, declaration_in, declaration_of, declare
from torchcreator._torch import hooks
from torchcreator._torch.dtensor import is_sharded
from torchcreator._torch.fakes import is_fake
from torchcreator._torch.modules import LOADING

_REFORMING = (
    "torch.nn.utils.",
    "torch.distributed.",
    "torch.export.",
    "torch.fx.",
    "torch.ao.",
)
"""Where torch registers what a module holds, in another form: normalised, pruned, fused, sharded,
exported, quantised."""
_NEVER = (ParametrizationList, GraphModule)
"""Modules that only hold what others made: pieces of a parametrized weight, traced graphs."""


def _on_register(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter | None:
    """Send a parameter through the creators; torch calls this for every registration.

    Returns:
        The parameter to register in its place, or None to register it as it is.
    """
    link = innermost_link()
    own: VariableSpec | None = parameter.__dict__.get(OWN)
    if own is not None and not isinstance(module, GraphModule):
        # variable() made it, creators and all. Its declaration is copied, never moved: the
        # parameter may leave this module again.
        declare(module, name, own)
        return None
    if link is None:
        return None
    registrar = sys._getframe(2)
    fresh, count = (
        ownership.FRESH[registrar.f_code is ownership.SETATTR],
        sys.getrefcount(parameter),
    )
    caller = ownership.caller(registrar)
    if caller.f_code is LOADING:
        return _loaded(link, module, name, parameter)
    if link.module_step is None or _in_another_form(caller, module, name, parameter):
        return None
    if count > fresh.counted:
        further = ownership.unaccounted(parameter) - fresh.unaccounted
        if ownership.held(parameter, further):
            declaration = declaration_of(parameter)
            if declaration is not None:
                declare(module, name, declaration)
            return None
    return _create(link, module, name, parameter)


def _in_another_form(
    caller: FrameType, module: nn.Module, name: str, parameter: nn.Parameter
) -> bool:
    """Return whether torch registers, in another form, what the module holds already."""
    return (
        isinstance(module, _NEVER)
        or caller.f_globals.get("__name__", "").startswith(_REFORMING)
        or (is_sharded(parameter) and declaration_in(module, name) is not None)
    )


def _loaded(
    link: Link, module: nn.Module, name: str, parameter: nn.Parameter
) -> nn.Parameter | None:
    """Let a load's values land, in the dtype and on the device that creators want them in.

    Creators are asked where the load brings another form than the parameter had that it replaces.
    """
    former, arrived = module._parameters.get(name), parameter
    if former is None:
        return None
    if (former.dtype, former.device) != (parameter.dtype, parameter.device):
        step = link.step if OWN in former.__dict__ else link.module_step
        declaration = None if step is None else declaration_of(former)
        if declaration is not None:
            target = LoadedTarget(module, declaration.name, parameter)
            through(step, target)
            arrived = parameter if target.made is None else target.made
    pinned.follow(link.root, former, arrived)
    return arrived


def _create(link: Link, module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter:
    target = StockTarget(module, name, parameter)
    made = through(link.module_step, target)
    if not isinstance(made, nn.Parameter):
        raise CreatorResultError(
            f"A creator returned {shown(made)} for {target}.",
            "A module holds torch.nn.Parameter objects, and torch does not check this one.",
            "Return next_creator(**kwargs), or torch.nn.Parameter(...).",
        )
    adopted = made is target.made
    if not adopted and target.made is not None and not (target.valued or _is_nowhere(made)):
        warn_uninitialised(str(target))
    declaration = target.spec if adopted else declaration_of(made)
    if declaration is not None:
        declare(module, name, declaration)
    if (target.valued if adopted else made is not parameter) and not is_lazy(made):
        pinned.pin(link.root, module, name, made)
    return made


def _is_nowhere(parameter: nn.Parameter) -> bool:
    """Return whether a parameter has no value at all, so that none was computed."""
    return is_lazy(parameter) or parameter.is_meta or is_fake(parameter)


def through(step: Step | None, target: StockTarget) -> Any:
    """Call the creators for a parameter of a stock module, and return what they do."""
    assert step is not None  # the callers asked
    creator, onward = step
    name, shape, dtype, trainable, *_, known = target.handed
    token = set_target(target)
    try:
        made: Any = creator(
            onward,
            initial_value=None,
            trainable=trainable,
            validate_shape=known,
            caching_device=None,
            name=name,
            dtype=dtype,
            constraint=None,
            synchronization=AUTO,
            aggregation=NONE,
            shape=shape,
            device=target.device,
            process_group=None,
            tags=None,
            module=target.module,
        )
    except (RecursionError, TypeError) as error:
        explain(error, through, current_chain(adopt), target.name)
    finally:
        reset_target(token)
    if made is None:
        raise returned_none(creator, target.name)
    return made


def install() -> None:
    """Install the registration hook, once; it is never removed.

    Taking it away while another thread walks the hooks would be a race, and without a scope it
    only copies the declaration of a `variable` into its owner's table.
    """
    if ownership.FRESH:
        return
    ownership.measure()
    hook: Any = _on_register  # torch declares a hook without a result, and uses the result
    hooks.install("creators of stock modules", register_module_parameter_registration_hook, hook)
