"""Change how somebody else's model makes its parameters, without touching its code.

Run it with ``python examples/swap_parameters.py``.
"""

from __future__ import annotations

import torch
from torch import nn
from typing_extensions import Unpack

import torchcreator as tc


def freeze_embeddings(
    next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]
) -> nn.Parameter:
    """Leave every embedding as it is initialised."""
    if isinstance(kwargs["module"], nn.Embedding):
        kwargs["trainable"] = False
    return next_creator(**kwargs)


def halve_matrices(
    next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]
) -> nn.Parameter:
    """Make every matrix in bfloat16; its module initialises it there."""
    if len(kwargs["shape"] or ()) == 2:
        kwargs["dtype"] = torch.bfloat16
    return next_creator(**kwargs)


class Tagger(nn.Module):
    """A model that knows nothing of creators."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 16)
        self.read = nn.GRU(16, 16, batch_first=True)
        self.answer = nn.Linear(16, 4)


def main() -> None:
    """Build the model under two creators and show what became of its parameters."""
    with tc.creator_scope(freeze_embeddings, halve_matrices):
        tagger = Tagger()
    for name, parameter, spec in tc.named_specs(tagger):
        trained = "trained" if spec.trainable else "frozen"
        print(f"{name:20} {tuple(parameter.shape)!s:10} {parameter.dtype!s:15} {trained}")


if __name__ == "__main__":
    main()
