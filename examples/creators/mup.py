"""muP (Yang et al., Tensor Programs V, 2022, table 8) in three creators: width-independent Adam.

Weights, (out_features, in_features), get a learning rate of 1 / in_features of a base width, but
the first layer's, which keeps it; `param_groups` carries it to any optimizer. Initial values are
torch's, of variance 1 / in_features already, but the last layer's, which begins at zero. It is
about how a model begins: for a build, which knows full names, or around a constructor with names
that are local there; a finished model's last layer would begin anew. Run it with
``python examples/creators/mup.py``.
"""

from __future__ import annotations

import torch
from torch import nn
from typing_extensions import Unpack

import torchcreator as tc


def mup(*, lr: float, base_width: int, first: str, last: str) -> tuple[tc.Creator, ...]:
    """Return the creators, the innermost last.

    Args:
        lr: The learning rate at the base width.
        base_width: The width at which it was tuned.
        first: A glob of the first layer's weight, whose in_features do not grow with the width.
        last: A glob of the last layer's weight.
    """

    def scaled(
        next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]
    ) -> nn.Parameter:
        shape = kwargs["shape"] or ()
        if len(shape) == 2:  # what is declared nearer to the variable stays
            rate = tc.creators.optimizer(lr=lr * base_width / shape[1])
            return rate(next_creator, **kwargs)
        return next_creator(**kwargs)

    constant = tc.creators.optimizer(lr=lr, name=first)
    return scaled, constant, tc.creators.initialize(nn.init.zeros_, name=last)


def model(width: int) -> nn.Module:
    """Return a model of some width that knows nothing of this."""
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))


def main() -> None:
    """Build a narrow and a wide model, and show what they learn at."""
    for width in (64, 256):
        with tc.creator_scope(*mup(lr=1e-3, base_width=64, first="0.weight", last="2.weight")):
            built = tc.build(model, width)
        groups = tc.param_groups(built, optimizer=torch.optim.Adam, lr=1e-3)
        rate = {id(p): group["lr"] for group in groups for p in group["params"]}
        shown = ", ".join(f"{name} {rate[id(p)]:.5f}" for name, p in built.named_parameters())
        print(f"width {width:3}: {shown}")


if __name__ == "__main__":
    main()
