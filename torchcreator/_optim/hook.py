"""The one hook through which constraints hold after every optimizer's every step."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from torchcreator._errors import ConstraintError, VariableTypeError, shown
from torchcreator._optim.groups import Constrained
from torchcreator._optim.plan import Plan
from torchcreator._spec.live_modules import full_name
from torchcreator._spec.spec import constraint_epoch, on_first_constraint
from torchcreator._spec.table import named_specs, specs_of
from torchcreator._torch import hooks
from torchcreator._torch.hosts import is_zero_redundancy, overlaps_with_ddp

ModelOrParameters: TypeAlias = nn.Module | torch.Tensor | Iterable[torch.Tensor]


class OptimizerPlan(Plan):
    """The plan of one optimizer, and how to know that it is out of date."""

    def __init__(self, optimizer: Optimizer, earlier: Iterable[Plan]) -> None:
        self.epoch = constraint_epoch()
        # Held, not only compared by id: the id of a list that is gone may be given out again.
        self.lists = [(group["params"], len(group["params"])) for group in optimizer.param_groups]
        members = _constrained([p for ps, _ in self.lists for p in ps])
        wrapped = is_zero_redundancy(optimizer)
        # The inner optimizer projects its own shard before it is broadcast: once per parameter.
        super().__init__(() if wrapped else members, earlier)
        if wrapped and members and overlaps_with_ddp(optimizer):
            self.failures.append(_no_hook_runs(full_name(members[0].parameter, members[0].name)))

    def fits(self, optimizer: Optimizer) -> bool:
        """Return whether this is still what the optimizer's parameters ask for."""
        groups = optimizer.param_groups
        if self.epoch != constraint_epoch() or len(groups) != len(self.lists):
            return False
        for group, (parameters, count) in zip(groups, self.lists, strict=True):
            if group["params"] is not parameters or len(parameters) != count:
                return False
        return True


_plans: weakref.WeakKeyDictionary[Optimizer, OptimizerPlan] = weakref.WeakKeyDictionary()
_announcing: weakref.WeakSet[Optimizer] = weakref.WeakSet()
"""The optimizers that say when a step begins."""


def after_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Project the constrained parameters that an optimizer has just written.

    Args:
        optimizer: The optimizer whose ``step`` returns.
        args: What ``step`` was called with.
        kwargs: What ``step`` was called with.
    """
    plan = _plans.get(optimizer)
    if plan is None or not plan.fits(optimizer):
        plan = _plans[optimizer] = _replan(optimizer)
    if plan.groups or plan.failures:
        plan.after_step(getattr(optimizer, "found_inf", None))


def _replan(optimizer: Optimizer) -> OptimizerPlan:
    plan = OptimizerPlan(optimizer, tuple(_plans.values()))
    if plan.seen and optimizer not in _announcing:
        _announcing.add(optimizer)
        optimizer.register_step_pre_hook(torch.compiler.disable(before_step))
    return plan


def before_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Forget what was seen: fused kernels write without raising a parameter's version.

    Only optimizers with a constraint that is not idempotent have this hook.
    """
    plan = _plans.get(optimizer)
    if plan is not None:
        plan.forget()


def _no_hook_runs(name: str) -> ConstraintError:
    return ConstraintError(
        f"Variable {name!r} is constrained, and ZeroRedundancyOptimizer overlaps with DDP.",
        "With overlap_with_ddp=True parameters are written inside the backward, by no optimizer's "
        "step: nothing would be projected.",
        "Leave overlap_with_ddp out, or call torchcreator.apply_constraints(model) yourself.",
    )


def apply_constraints(model_or_params: ModelOrParameters) -> None:
    """Project every constrained parameter now.

    A step of an optimizer does this by itself. By hand it is for what is written otherwise: by
    `torch.nn.init`, a loaded ``state_dict``, an average of models. Frozen parameters and those
    without a gradient are projected too; parameters without a constraint are left alone.

    Args:
        model_or_params: A module, a parameter, or parameters.

    Raises:
        VariableTypeError: It is something else, or a constraint is not defined for its variable.
        ConstraintError: A function gave no usable result; the other parameters are projected.

    Example:
        >>> import torchcreator as tc
        >>> w = tc.variable([-1.0, 2.0], constraint="non_neg")
        >>> tc.apply_constraints([w])
        >>> w.tolist()
        [0.0, 2.0]
    """
    Plan(_members(model_or_params)).everything()


def _members(source: ModelOrParameters) -> Iterable[Constrained]:
    if isinstance(source, nn.Module):
        return [
            Constrained(name, p, spec.constraint)
            for name, p, spec in named_specs(source)
            if spec.constraint is not None and not nn.parameter.is_lazy(p)
        ]
    parameters = [source] if isinstance(source, torch.Tensor) else _listed(source)
    return _constrained(parameters)


def _listed(source: object) -> list[torch.Tensor]:
    try:
        items: list[Any] = list(source) if isinstance(source, Iterable) else [source]
    except Exception:  # iterating over somebody's object may raise anything
        items = [source]
    for item in items:
        if not isinstance(item, torch.Tensor):
            raise VariableTypeError(
                f"apply_constraints() got {shown(item)}, which is no parameter.",
                "Constraints are declared for parameters and found through them.",
                "Pass a module, a parameter, or an iterable such as model.parameters().",
            )
    return items


def _constrained(parameters: Sequence[torch.Tensor]) -> list[Constrained]:
    return [
        Constrained(spec.name, p, spec.constraint)
        for p, spec in zip(parameters, specs_of(parameters), strict=True)
        if spec is not None and spec.constraint is not None
    ]


def install() -> None:
    """Arrange for the hook to be registered when the first constrained variable exists."""
    on_first_constraint(_register)


def _register() -> None:
    # Dynamo would trace into the hook when a step is compiled, and crash on the weak dictionary.
    hook = torch.compiler.disable(after_step)
    hooks.install("constraints", register_optimizer_step_post_hook, hook)
