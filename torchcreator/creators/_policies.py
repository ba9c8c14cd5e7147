"""Creators that declare what is to happen to a parameter once it exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from typing_extensions import Unpack

from torchcreator import constraints
from torchcreator._errors import VariableValueError, shown
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.types import Creator, NextCreator, VariableKwargs
from torchcreator.constraints._base import Constraint
from torchcreator.creators._named import named

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

OPTIMIZER = "optimizer"
"""The tag under which `optimizer` keeps options for `param_groups`."""


def freeze() -> Creator:
    """Make every variable without a gradient.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.freeze()):
        ...     layer = nn.Linear(2, 3)
        >>> layer.weight.requires_grad
        False
    """

    @named("freeze()")
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        kwargs["trainable"] = False
        return next_creator(**kwargs)

    return creator


def constrain(constraint: Constraint | str) -> Creator:
    """Give every variable a constraint, in the place of one that it declares.

    Args:
        constraint: A projection applied after each optimizer step, or a name such as "non_neg".

    Raises:
        VariableValueError: There is no constraint of that name.
        VariableTypeError: It is neither callable nor a name.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.constrain("non_neg")):
        ...     layer = nn.Linear(2, 3)
        >>> tc.spec_of(layer.weight).constraint
        NonNeg()
    """
    checked = constraints.get(constraint, "constrain(...)")

    @named(f"constrain({shown(constraint)})")
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        kwargs["constraint"] = checked
        return next_creator(**kwargs)

    return creator


def aggregate(policy: VariableAggregation | str, *, group: ProcessGroup | None = None) -> Creator:
    """Declare how the values and gradients of several ranks become one.

    Args:
        policy: "sum", "mean", "only_first_replica" or "none".
        group: The ranks concerned; None leaves what the variable declares.

    Raises:
        VariableValueError: The policy is not known.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.aggregate("sum")):
        ...     layer = nn.Linear(2, 3)
        >>> tc.spec_of(layer.weight).aggregation
        <VariableAggregation.SUM: 1>
    """
    aggregation = VariableAggregation.of(policy, "aggregate(...)")

    @named(f"aggregate({aggregation.name.lower()!r})")
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        kwargs["aggregation"] = aggregation
        if group is not None:
            kwargs["process_group"] = group
        return next_creator(**kwargs)

    return creator


def local() -> Creator:
    """Let every rank have its own values, which are never brought together.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.local()):
        ...     expert = nn.Linear(2, 3)
        >>> tc.spec_of(expert.weight).synchronization
        <VariableSynchronization.NONE: 1>
    """

    @named("local()")
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        kwargs["synchronization"] = VariableSynchronization.NONE
        return next_creator(**kwargs)

    return creator


def optimizer(**options: Any) -> Creator:
    """Declare options of the optimizer for every variable; `param_groups` makes groups of them.

    An option that the variable, or a creator nearer to it, declared already is kept.

    Args:
        **options: What an optimizer's parameter group takes: ``weight_decay=0.0``, say.

    Raises:
        VariableValueError: No option is given, or the parameters are.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> undecayed = tc.creators.optimizer(weight_decay=0.0)
        >>> vectors = tc.creators.where(undecayed, when=lambda shape, **_: len(shape) < 2)
        >>> with tc.creator_scope(vectors):
        ...     model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
        >>> [(len(g["params"]), g["weight_decay"])
        ...     for g in tc.param_groups(model, weight_decay=0.1)]
        [(1, 0.1), (3, 0.0)]
    """
    if not options or "params" in options:
        raise VariableValueError(
            f"optimizer got {shown(options)}.",
            "It declares options of a parameter group, and the parameters are the variables.",
            "Write optimizer(weight_decay=0.0), say.",
        )

    @named(f"optimizer({', '.join(f'{key}={shown(value)}' for key, value in options.items())})")
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        tags = kwargs.get("tags") or {}
        kwargs["tags"] = {**tags, OPTIMIZER: {**options, **tags.get(OPTIMIZER, {})}}
        return next_creator(**kwargs)

    return creator
