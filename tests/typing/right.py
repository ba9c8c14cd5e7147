"""Accepted by mypy in strict mode; never run."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack, assert_type

import torchcreator as tc
from torchcreator.constraints import MaxNorm, NonNeg


def typed(next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]) -> nn.Parameter:
    """Change keywords, read others, and call on."""
    kwargs["trainable"] = False
    kwargs["aggregation"] = "mean"
    shape = kwargs.get("shape")
    if shape is not None and len(shape) == 2:
        kwargs["constraint"] = MaxNorm(1.0)
    return next_creator(**kwargs)


def untyped_keywords(next_creator: tc.NextCreator, /, **kwargs: Any) -> nn.Parameter:
    """Say nothing about the keywords."""
    return next_creator(**{**kwargs, "dtype": torch.float64})


def answers_itself(
    next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]
) -> nn.Parameter:
    """Call the chain never."""
    return nn.Parameter(torch.zeros(kwargs["shape"] or ()))


class Counting:
    """A creator may be an object."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(
        self, next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]
    ) -> nn.Parameter:
        """Count, and call on."""
        self.made += 1
        return next_creator(**kwargs)


creators: list[tc.Creator] = [typed, untyped_keywords, answers_itself, Counting()]

for creator in creators:
    with tc.creator_scope(creator):
        assert_type(tc.variable([1.0, 2.0]), nn.Parameter)


@tc.creator_scope(typed, modules=False)
def build(size: int) -> nn.Linear:
    """Keep the signature of a decorated function."""
    return nn.Linear(size, size)


assert_type(build(3), nn.Linear)

every_keyword = tc.variable(
    lambda: torch.zeros(2),
    trainable=True,
    validate_shape=True,
    caching_device="cpu",
    name="w",
    dtype=torch.float32,
    constraint=NonNeg(),
    synchronization=tc.VariableSynchronization.ON_READ,
    aggregation="sum",
    shape=(2,),
    device=torch.device("cpu"),
    process_group=None,
    tags={"role": "gain"},
)
in_place = tc.variable(nn.init.zeros_, shape=[2, 3])
own_constraint = tc.variable(1.0, constraint=lambda w: w.clamp(min=0))

assert_type(tc.spec_of(every_keyword), "tc.VariableSpec | None")
assert_type(tc.assign(every_keyword, [1.0, 2.0]), nn.Parameter)
assert_type(tc.read_value(every_keyword), torch.Tensor)
for name, parameter, spec in tc.named_specs(build(3)):
    assert_type(name, str)
    assert_type(parameter, nn.Parameter)
    assert_type(spec, tc.VariableSpec)

assert_type(tc.build(nn.Linear, 2, out_features=3, bias=False), nn.Linear)
assert_type(tc.build(nn.Linear, 2, 3, device="meta", dtype=torch.float64), nn.Linear)
assert_type(tc.build(nn.Linear, 2, 3, seed=0, device="cpu"), nn.Linear)
assert_type(tc.build(build, 3), nn.Linear)
assert_type(tc.build(lambda: nn.Sequential(nn.Linear(2, 3)), seed=None), nn.Sequential)
assert_type(tc.materialize(tc.defer(nn.Linear, 2, 3)), nn.Linear)
assert_type(tc.recreate(nn.Linear(2, 3)), nn.Linear)
