"""Each marked line is refused by mypy, with the code and the words beside it; never run."""

from __future__ import annotations

from functools import partial

from torch import nn
from typing_extensions import Unpack

import torchcreator as tc


def misspelt(next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]) -> nn.Parameter:
    """Misspell what is read, what is set and what is passed on."""
    kwargs["trainble"] = False  # type: ignore[typeddict-unknown-key]  # Did you mean "trainable"
    size = kwargs["shap"]  # type: ignore[typeddict-item]  # Did you mean "shape"
    return next_creator(aggregaton="sum", shape=size)  # type: ignore[call-arg]  # did you mean "aggregation"


def positional(
    next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]
) -> nn.Parameter:
    """Pass on by position."""
    return next_creator(None)  # type: ignore[call-arg]  # Too many positional


def mistyped(next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]) -> nn.Parameter:
    """Set a keyword to the wrong type."""
    kwargs["trainable"] = "yes"  # type: ignore[typeddict-item]  # expected "bool | None"
    return next_creator(name=3)  # type: ignore[arg-type]  # expected "str | None"


def returns_nothing(next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]) -> None:
    """Forget to return."""
    next_creator(**kwargs)


def takes_no_keywords(next_creator: tc.NextCreator, /) -> nn.Parameter:
    """Forget the keywords."""
    return next_creator()


def takes_no_next(**kwargs: Unpack[tc.VariableKwargs]) -> nn.Parameter:
    """Forget the next creator."""
    return tc.variable(**kwargs)


tc.creator_scope(returns_nothing)  # type: ignore[arg-type]  # expected "Creator"
tc.creator_scope(takes_no_keywords)  # type: ignore[arg-type]  # expected "Creator"
tc.creator_scope(takes_no_next)  # type: ignore[arg-type]  # expected "Creator"
tc.creator_scope(misspelt(lambda **kwargs: tc.variable(**kwargs)))  # type: ignore[arg-type]  # Parameter

tc.variable(1.0, trainble=True)  # type: ignore[arg-type]  # "trainble" to "variable"
tc.variable(1.0, agregation="sum")  # type: ignore[arg-type]  # "agregation" to "variable"
tc.variable(1.0, True)  # type: ignore[call-arg]  # Too many positional arguments
tc.variable(1.0, trainable="yes")  # type: ignore[arg-type]  # expected "bool | None"
tc.variable(1.0, constraint=3)  # type: ignore[arg-type]  # expected "Constraint | str | None"
tc.assign("w", 1.0)  # type: ignore[arg-type]  # "str"
tc.varable(1.0)  # type: ignore[attr-defined]  # maybe "variable"

tc.build(nn.Linear, 2, 2, bias="no")  # type: ignore[arg-type]  # incompatible type "str"; expected "bool"
tc.build(nn.Linear, 2, 2, nonsense=3)  # type: ignore[call-arg]  # Unexpected keyword argument "nonsense"
tc.build(partial(nn.Linear, 2, 2, bias="no"), seed=0)  # type: ignore[arg-type]  # expected "bool"
tc.build(nn.Linear, 2)  # type: ignore[call-overload]  # No overload variant of "build" matches
tc.defer(nn.Linear, 2, "2")  # type: ignore[call-overload]  # No overload variant of "defer" matches
tc.recreate(nn.Linear)  # type: ignore[type-var]  # "recreate" cannot be "type[Linear]"
