"""muP (Yang et al., Tensor Programs V, 2022, table 8) in one creator: width-independent Adam.

Hidden weights, (out_features, in_features), get a learning rate of 1 / in_features of a base
width; `param_groups` carries it to any optimizer. Initial values are torch's, of variance
1 / in_features already, but the last layer's, which begins at zero.
"""

from __future__ import annotations

from torch import nn
from typing_extensions import Unpack

import torchcreator as tc


def mup(*, lr: float, base_width: int, output: str) -> tc.Creator:
    """Return the creator.

    Args:
        lr: The learning rate at the base width.
        base_width: The width at which it was tuned.
        output: A glob of the last layer's weight.
    """
    hidden = tc.creators.where(_scaled(lr, base_width), when=lambda shape, **_: len(shape) == 2)
    zero = tc.creators.initialize(nn.init.zeros_, name=output)

    def creator(
        next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]
    ) -> nn.Parameter:
        return hidden(lambda **more: zero(next_creator, **more), **kwargs)

    return creator


def _scaled(lr: float, base_width: int) -> tc.Creator:
    def creator(
        next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]
    ) -> nn.Parameter:
        shape = kwargs["shape"]
        assert shape is not None
        scaled = tc.creators.optimizer(lr=lr * base_width / shape[1])
        return scaled(next_creator, **kwargs)

    return creator
