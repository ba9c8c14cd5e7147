"""Creators that declare what is to happen to a parameter once it exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn
from typing_extensions import Unpack

from torchcreator._errors import VariableValueError, shown
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._spec.types import Creator, NextCreator, VariableKwargs
from torchcreator.constraints._base import Constraint
from torchcreator.creators._choice import Choice, Names, Types, ready
from torchcreator.creators._declare import declares
from torchcreator.creators._options import warn_of_unknown

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

OPTIMIZER = "optimizer"
"""The tag under which `optimizer` keeps options for `param_groups`."""


def freeze(**chosen: Unpack[Choice]) -> Creator:
    """Make every variable without a gradient.

    Args:
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, ``strict=``, as in `where`.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.freeze(name="*.bias")):
        ...     layer = nn.Linear(2, 3)
        >>> layer.weight.requires_grad, layer.bias.requires_grad
        (True, False)
    """
    return declares("freeze", choice=chosen, trainable=False)


def constrain(constraint: Constraint | str, **chosen: Unpack[Choice]) -> Creator:
    """Give every variable a constraint, in the place of one that it declares.

    Args:
        constraint: A projection applied after each optimizer step, or a name such as "non_neg".
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, ``strict=``, as in `where`.

    Raises:
        VariableValueError: There is no constraint of that name.
        VariableTypeError: It is neither callable nor a name.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.constrain("non_neg", module=nn.Linear)):
        ...     layer = nn.Linear(2, 3)
        >>> tc.spec_of(layer.weight).constraint
        NonNeg()
    """
    return declares("constrain", shown(constraint), choice=chosen, constraint=constraint)


def aggregate(
    policy: VariableAggregation | str,
    *,
    process_group: ProcessGroup | None = None,
    **chosen: Unpack[Choice],
) -> Creator:
    """Declare how the values and gradients of several ranks become one.

    Args:
        policy: "sum", "mean", "only_first_replica" or "none".
        process_group: The ranks concerned; None leaves what the variable declares.
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, ``strict=``, as in `where`.

    Raises:
        VariableValueError: The policy is not known.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.aggregate("sum")):
        ...     layer = nn.Linear(2, 3)
        >>> tc.spec_of(layer.weight).aggregation
        <VariableAggregation.SUM: 'sum'>
    """
    aggregation = VariableAggregation.of(policy, asked_by="aggregate")
    group = {} if process_group is None else {"process_group": process_group}
    word = repr(aggregation.value)
    return declares("aggregate", word, choice=chosen, aggregation=aggregation, **group)


def local(**chosen: Unpack[Choice]) -> Creator:
    """Let every rank have its own values, which are never brought together.

    Args:
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, ``strict=``, as in `where`.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.local()):
        ...     expert = nn.Linear(2, 3)
        >>> tc.spec_of(expert.weight).synchronization
        <VariableSynchronization.NONE: 'none'>
    """
    return declares("local", choice=chosen, synchronization=VariableSynchronization.NONE)


def optimizer(
    *,
    name: Names = None,
    module: Types = None,
    when: Callable[..., bool] | None = None,
    strict: bool | None = None,
    **options: Any,
) -> Creator:
    """Declare options of the optimizer for every variable; `param_groups` makes groups of them.

    An option that the variable, or a creator nearer to it, declared already is kept. One that no
    optimizer of this process has is told by a warning; `param_groups` makes it an error where it
    is told which optimizer will read it.

    Args:
        name: Which variables, by name, as in `where`.
        module: Which, by the type of the module that owns them.
        when: Which, by their keywords.
        strict: Whether conditions that nothing meets are an error.
        **options: What an optimizer's parameter group takes: ``weight_decay=0.0``, say.

    Raises:
        VariableValueError: No option is given, or the parameters are.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> undecayed = tc.creators.optimizer(weight_decay=0.0, name="*.bias")
        >>> with tc.creator_scope(undecayed):
        ...     model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> [(len(g["params"]), g["weight_decay"])
        ...     for g in tc.param_groups(model, weight_decay=0.1)]
        [(2, 0.1), (2, 0.0)]
    """
    if not options or "params" in options:
        raise VariableValueError(
            f"optimizer got {shown(options)}.",
            "It declares options of a parameter group, and the parameters are the variables.",
            "Write optimizer(weight_decay=0.0), say.",
        )
    warn_of_unknown(options)
    choice = {"name": name, "module": module, "when": when, "strict": strict}

    @ready("optimizer", *(f"{key}={shown(v)}" for key, v in options.items()), choice=choice)
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        tags = kwargs.get("tags") or {}
        kwargs["tags"] = {**tags, OPTIMIZER: {**options, **tags.get(OPTIMIZER, {})}}
        return next_creator(**kwargs)

    return creator
