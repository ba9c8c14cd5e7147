"""Parameters that stock modules register inside a scope go through its creators."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from torchcreator._chain.complaints import explain, returned_none, warn_uninitialised
from torchcreator._chain.open_scopes import Link, current
from torchcreator._chain.scope import current_chain
from torchcreator._chain.target import Asked
from torchcreator._chain.target import target as _target
from torchcreator._errors import CreatorResultError, VariableValueError, shown
from torchcreator._modules import ownership, pinned
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.lazy import uninitialized
from torchcreator._spec.spec import VariableSpec, spec_from
from torchcreator._spec.table import OWN, TABLE, declaration_of, declare, is_declared
from torchcreator._torch import hooks
from torchcreator._torch.dtensor import is_sharded
from torchcreator._torch.fakes import is_fake
from torchcreator._torch.modules import LOADING
from torchcreator._torch.tensors import can_share_data

_AUTO, _NONE = VariableSynchronization.AUTO, VariableAggregation.NONE
_SETATTR = nn.Module.__setattr__.__code__
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


class _StockTarget:
    """A parameter that a stock module has just registered and will initialise itself."""

    __slots__ = ("form", "handed", "made", "module", "name", "parameter", "spec", "valued")
    value = None  # its module gives it one later

    def __init__(self, module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        self.module: nn.Module | None = module
        self.name = name
        self.parameter = parameter
        lazy = type(parameter) is not nn.Parameter and is_lazy(parameter)
        shape, dtype, device = None if lazy else parameter.shape, parameter.dtype, parameter.device
        self.form = shape, dtype, device
        # What creators receive, but for the initial value: `adopt` looks whether it came back.
        self.handed = (
            None if parameter.requires_grad else False, not lazy, None, name, dtype, None, _AUTO,
            _NONE, shape, device, None, None, module,
        )  # fmt: skip
        self.made: nn.Parameter | None = None
        self.spec: VariableSpec | None = None
        self.valued = False

    def adopted(self) -> nn.Parameter:
        """Return the module's own parameter, declared to be what it is."""
        parameter = self.parameter
        shape, dtype, _ = self.form
        trainable, known = parameter.requires_grad, shape is not None
        self.spec = spec_from(
            (self.name, shape, dtype, trainable, None, _AUTO, _NONE, None, None, {}, known)
        )
        self.made = parameter
        return parameter

    def fill(self, data: torch.Tensor | None, asked: Asked) -> nn.Parameter:
        """Return the module's own parameter, with ``data`` in it if there is some."""
        parameter = self.parameter
        own_shape = self.form[0]
        if own_shape is None:
            return self._lazy(data, asked)
        shape = asked.shape if data is None else data.shape
        if shape is not own_shape and shape is not None and shape != own_shape:
            raise self._other_shape(shape)
        self.valued = data is not None
        if data is None and not _moves(parameter, asked):
            if parameter.requires_grad is not asked.trainable:
                parameter.requires_grad_(asked.trainable)
            return parameter
        if data is None:
            data = _converted(parameter.detach(), asked)
        if not can_share_data(parameter, data):
            return nn.Parameter(data, asked.trainable)
        parameter.requires_grad_(False)  # an integer dtype is refused while it has a gradient
        parameter.data = data
        parameter.requires_grad_(asked.trainable)
        return parameter

    def _lazy(self, data: torch.Tensor | None, asked: Asked) -> nn.Parameter:
        if data is not None:
            raise VariableValueError(
                f"A creator set the initial_value of the lazy parameter {self}.",
                "Its shape is not known before the first forward, which then initialises it.",
                "Leave initial_value as None where shape is None.",
            )
        own = self.parameter
        if _moves(own, asked):
            place, dtype = asked.device or own.device, asked.dtype or own.dtype
            return uninitialized(asked.trainable, place, dtype)
        own.requires_grad = asked.trainable
        return own

    def _other_shape(self, asked: torch.Size) -> VariableValueError:
        return VariableValueError(
            f"A creator gave {self} another shape than its module did.\n"
            f"  expected: {tuple(self.parameter.shape)}\n"
            f"  actual:   {tuple(asked)}",
            "The module's forward relies on the shape it chose.",
            "Keep shape as it comes, or return a parameter of your own.",
        )

    def __str__(self) -> str:
        return f"{type(self.module).__name__}.{self.name}"


def _moves(parameter: nn.Parameter, asked: Asked) -> bool:
    if asked.dtype is not None and asked.dtype != parameter.dtype:
        return True
    own, device = parameter.device, asked.device
    if device is None or device == own:
        return False
    # "cuda" stands for the current one, which it may be on already.
    return device.type != own.type or device.index is not None


def _converted(value: torch.Tensor, asked: Asked) -> torch.Tensor:
    if value.is_meta:  # nothing to convert; the module initialises what it finds
        return torch.empty_like(value, dtype=asked.dtype, device=asked.device)
    return value.to(device=asked.device, dtype=asked.dtype)


def _on_register(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter | None:
    """Send a parameter through the creators; torch calls this for every registration.

    Returns:
        The parameter to register in its place, or None to register it as it is.
    """
    link = current.get()
    own: VariableSpec | None = parameter.__dict__.get(OWN)
    if own is not None and not isinstance(module, GraphModule):
        # variable() made it, creators and all. Its declaration is copied, never moved: the
        # parameter may leave this module again.
        declare(module, name, own)
        return None
    if link is None or link.module_step is None or isinstance(module, _NEVER):
        return None
    registrar = sys._getframe(2)
    floor, count = _floor[registrar.f_code is _SETATTR], sys.getrefcount(parameter)
    if _in_another_form(registrar) or (
        TABLE in module.__dict__ and is_declared(module, name) and is_sharded(parameter)
    ):
        ownership.note(link.root, module, name, parameter)
        return None
    if count > floor and ownership.held(link.root, parameter):
        declaration = declaration_of(parameter)
        if declaration is not None:
            declare(module, name, declaration)
        return None
    return _create(link, module, name, parameter)


def _in_another_form(frame: FrameType | None) -> bool:
    """Return whether torch registers, in another form, what the module holds already.

    Args:
        frame: What called ``register_parameter``.
    """
    while frame is not None and frame.f_code.co_name in ("register_parameter", "__setattr__"):
        frame = frame.f_back
    if frame is None:
        return False
    caller: str = frame.f_globals.get("__name__", "")
    return frame.f_code is LOADING or caller.startswith(_REFORMING)


def _create(link: Link, module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter:
    target = _StockTarget(module, name, parameter)
    made = _through(link, target)
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
    if link.root.owners is not None:
        ownership.note(link.root, module, name, made)
    return made


def _is_nowhere(parameter: nn.Parameter) -> bool:
    """Return whether a parameter has no value at all, so that none was computed."""
    return is_lazy(parameter) or parameter.is_meta or is_fake(parameter)


def _through(link: Link, target: _StockTarget) -> Any:
    assert link.module_step is not None  # _on_register asked
    creator, onward = link.module_step
    shape, dtype, device = target.form
    token = _target.set(target)
    try:
        made: Any = creator(
            onward,
            initial_value=None,
            trainable=target.handed[0],
            validate_shape=shape is not None,
            caching_device=None,
            name=target.name,
            dtype=dtype,
            constraint=None,
            synchronization=_AUTO,
            aggregation=_NONE,
            shape=shape,
            device=device,
            process_group=None,
            tags=None,
            module=target.module,
        )
    except (RecursionError, TypeError) as error:
        explain(error, _through, current_chain(), target.name)
    finally:
        _target.reset(token)
    if made is None:
        raise returned_none(creator, target.name)
    return made


class _Probe(nn.Module):
    """Registers fresh parameters in the two ways there are, to calibrate the reference counts."""

    def __init__(self) -> None:
        super().__init__()
        self.assigned = nn.Parameter(torch.empty(0))
        self.register_parameter("registered", nn.Parameter(torch.empty(0)))


_floor: dict[bool, int] = {}
"""The reference count of a fresh parameter in the hook, by whether it came by assignment."""


def _calibrate(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    if isinstance(module, _Probe):
        by_setattr = sys._getframe(2).f_code is _SETATTR
        _floor[by_setattr] = sys.getrefcount(parameter)


def install() -> None:
    """Install the registration hook, once; it is never removed.

    Taking it away while another thread walks the hooks would be a race, and without a scope it
    only copies the declaration of a `variable` into its owner's table.
    """
    if _floor:
        return
    handle = register_module_parameter_registration_hook(_calibrate)
    _Probe()
    handle.remove()
    hook: Any = _on_register  # torch declares a hook without a result, and uses the result
    hooks.install("creators of stock modules", register_module_parameter_registration_hook, hook)
