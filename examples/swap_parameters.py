"""Change how somebody else's model makes its parameters, without touching its code.

Run it with ``python examples/swap_parameters.py``.
"""

from __future__ import annotations

import torch
from torch import nn

import torchcreator as tc


class Tagger(nn.Module):
    """A model that knows nothing of creators."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 16)
        self.read = nn.GRU(16, 16, batch_first=True)
        self.answer = nn.Linear(16, 4)


def main() -> None:
    """Build the model under two creators and show what became of its parameters."""
    with tc.creator_scope(
        tc.creators.freeze(module=nn.Embedding),
        tc.creators.cast(torch.bfloat16, when=lambda shape, **_: len(shape) == 2),
    ):
        tagger = Tagger()
    for name, parameter, spec in tc.named_specs(tagger):
        trained = "trained" if spec.trainable else "frozen"
        print(f"{name:20} {tuple(parameter.shape)!s:10} {parameter.dtype!s:15} {trained}")


if __name__ == "__main__":
    main()
