"""Constraints: what a parameter is brought back to after each optimizer step.

A constraint is any function ``f(w) -> w``. The ready-made ones are frozen dataclasses: pure on
tensors, batched over lists of them, right on shards. ``a & b`` applies one after the other.

Example:
    >>> import torch
    >>> import torchcreator as tc
    >>> w = tc.variable([[3.0, 4.0]], constraint=tc.constraints.MaxNorm(1.0))
    >>> torch.optim.SGD([w], lr=0.1).zero_grad()
    >>> tc.apply_constraints([w])
    >>> w.tolist()  # doctest: +ELLIPSIS
    [[0.6..., 0.8...]]
"""

from torchcreator.constraints._base import Composed, Projection, check
from torchcreator.constraints._elements import Clip, Masked, NonNeg, Simplex, Sparse
from torchcreator.constraints._matrices import (
    Orthogonal,
    PositiveDefinite,
    SpectralNorm,
    Symmetric,
)
from torchcreator.constraints._norms import MaxNorm, MinMaxNorm, UnitNorm
from torchcreator.constraints._registry import from_config, get, picklable, to_config

__all__ = [
    "Clip",
    "Composed",
    "Masked",
    "MaxNorm",
    "MinMaxNorm",
    "NonNeg",
    "Orthogonal",
    "PositiveDefinite",
    "Projection",
    "Simplex",
    "Sparse",
    "SpectralNorm",
    "Symmetric",
    "UnitNorm",
    "check",
    "from_config",
    "get",
    "picklable",
    "to_config",
]
