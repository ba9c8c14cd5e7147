"""The hooks before and after every optimizer's every step: an audit, and then the projections."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from torchcreator._errors import ConstraintError, VariableTypeError, shown
from torchcreator._optim.audit import Audit, many_ranks, per_rank_averaged, refuse_overlap
from torchcreator._optim.averaged import averages, project_sequences
from torchcreator._optim.groups import Constrained, Group
from torchcreator._optim.held import Held
from torchcreator._optim.plan import Plan
from torchcreator._spec.live_modules import full_name
from torchcreator._spec.spec import constraint_epoch, on_first_constraint, on_first_policy
from torchcreator._spec.table import named_specs, specs_of
from torchcreator._torch import hooks
from torchcreator._torch.hosts import (
    is_averaged_afterwards,
    is_zero_redundancy,
    overlaps_with_ddp,
    step_on_every_rank,
)

ModelOrParameters: TypeAlias = nn.Module | torch.Tensor | Iterable[torch.Tensor]


class OptimizerPlan(Plan):
    """The plan of one optimizer, and how to know that it is out of date."""

    def __init__(self, optimizer: Optimizer, earlier: Iterable[Plan]) -> None:
        self.epoch = constraint_epoch()
        self.held = [Held(group["params"]) for group in optimizer.param_groups]
        parameters = self.parameters()
        members = _constrained(parameters)
        wrapped = is_zero_redundancy(optimizer)
        # The inner optimizer projects its own shard before it is broadcast: once per parameter.
        super().__init__(() if wrapped else members, earlier)
        if wrapped and members and overlaps_with_ddp(optimizer):
            self.failures.append(_no_hook_runs(full_name(members[0].parameter, members[0].name)))
        self._averaging = weakref.ref(optimizer) if averages(optimizer) else _nothing
        self.audit: Audit | None = None
        self.looked = False

    def fits(self, optimizer: Optimizer) -> bool:
        """Return whether the optimizer still holds the same parameters."""
        groups = optimizer.param_groups
        if self.epoch != constraint_epoch() or len(groups) != len(self.held):
            return False
        return all(
            held.is_still(group["params"]) for group, held in zip(groups, self.held, strict=True)
        )

    def parameters(self) -> list[torch.Tensor]:
        """Return all parameters that the optimizer holds."""
        return [p for held in self.held for p in held.parameters]

    def _say_that_averages_follow(self) -> None:
        assert self.audit is not None
        if self.audit.per_rank:
            raise per_rank_averaged(self.audit.per_rank[0])
        name = next(iter(self.groups[0].names.values()))
        warnings.warn(
            f"Variable {name!r} is constrained, and PostLocalSGDOptimizer averages parameters "
            "after the step, where no hook runs: the mean of two points of a set need not be in "
            "it.\nCall torchcreator.apply_constraints(model) after its step().",
            stacklevel=2,
        )

    def _project(self, group: Group, due: list[torch.Tensor]) -> list[ConstraintError]:
        optimizer = self._averaging()
        failures: list[ConstraintError] = []
        if optimizer is not None:
            failures += project_sequences(optimizer, due, group.project)
        return failures + group.project(due)

    def ask(self, optimizer: Optimizer) -> None:
        """Make sure that what several ranks are to agree on is carried out by somebody."""
        if self.audit is None or not self.audit.fits():
            self.audit = Audit(self.parameters())
            if is_zero_redundancy(optimizer):
                if overlaps_with_ddp(optimizer):
                    refuse_overlap(self.parameters())
                elif self.audit.per_rank:
                    step_on_every_rank(optimizer, self.audit.per_rank)
            if (self.audit.per_rank or self.groups) and is_averaged_afterwards(optimizer):
                self._say_that_averages_follow()
        self.audit.check()


def _nothing() -> None:
    return None


_plans: weakref.WeakKeyDictionary[Optimizer, OptimizerPlan] = weakref.WeakKeyDictionary()


_parts: weakref.WeakSet[Optimizer] = weakref.WeakSet()
"""Those that step a rank's part of what a ZeroRedundancyOptimizer, which was asked, holds."""


def before_step(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Look at what an optimizer is about to write.

    Args:
        optimizer: The optimizer whose ``step`` begins.
        args: What ``step`` was called with.
        kwargs: What ``step`` was called with.

    Raises:
        DistributedError: A variable declares something of several ranks that nobody carries out.
    """
    plan = _plan(optimizer)
    plan.looked = True
    plan.forget()
    if many_ranks() and optimizer not in _parts:
        if is_zero_redundancy(optimizer) and not overlaps_with_ddp(optimizer):
            _parts.add(optimizer.optim)
        plan.ask(optimizer)


def after_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Project the constrained parameters that an optimizer has just written.

    Args:
        optimizer: The optimizer whose ``step`` returns.
        args: What ``step`` was called with.
        kwargs: What ``step`` was called with.
    """
    plan = _plans.get(optimizer)
    if plan is None or not plan.looked:  # `super().step()` has two ends
        plan = _plan(optimizer)
    plan.looked = False
    if plan.groups or plan.failures:
        plan.after_step(getattr(optimizer, "found_inf", None))


def _plan(optimizer: Optimizer) -> OptimizerPlan:
    plan = _plans.get(optimizer)
    if plan is None or not plan.fits(optimizer):
        plan = _plans[optimizer] = OptimizerPlan(optimizer, tuple(_plans.values()))
    return plan


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
    """Arrange for the hooks to be registered when the first variable exists that needs them."""
    on_first_constraint(_register_before)
    on_first_policy(_register_before)
    on_first_constraint(_register_after)


def _register_before() -> None:
    if "policies" not in (hook.purpose for hook in hooks.hooks()):
        # Dynamo would trace into a hook when a step is compiled, and crash on weak dictionaries.
        hook = torch.compiler.disable(before_step)
        hooks.install("policies", register_optimizer_step_pre_hook, hook)


def _register_after() -> None:
    hook = torch.compiler.disable(after_step)
    hooks.install("constraints", register_optimizer_step_post_hook, hook)
