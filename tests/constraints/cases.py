"""Every ready-made constraint, with the definition of the set that it projects onto.

The definitions are written from the mathematics, in double precision, without the library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from torchcreator import constraints as c

VECTOR, MATRIX, WIDE, SQUARE, BATCH, KERNEL = (5,), (6, 4), (3, 7), (4, 4), (2, 3, 3), (4, 2, 3, 3)
MASK = torch.tensor([[True, False, True, True]])


@dataclass(frozen=True)
class Case:
    """A constraint, the shapes it is tried on, and whether a tensor satisfies it."""

    name: str
    constraint: c.Projection
    shapes: tuple[tuple[int, ...], ...]
    holds: Callable[[torch.Tensor, float], bool]
    nearest: bool = True
    """Whether it is the Euclidean projection onto that set."""

    def __str__(self) -> str:
        return self.name


def units(w: torch.Tensor) -> torch.Tensor:
    """Return the norm of each unit's weights."""
    return (w.flatten(1) if w.ndim > 1 else w[None]).norm(dim=1)


def spectrum(w: torch.Tensor) -> torch.Tensor:
    return torch.linalg.svdvals(w)


def symmetric(w: torch.Tensor, tol: float) -> bool:
    return bool((w - w.mH).abs().max() <= tol)


def orthonormal(w: torch.Tensor, tol: float) -> bool:
    tall = w if w.shape[-2] >= w.shape[-1] else w.mH
    return bool((tall.mH @ tall - torch.eye(tall.shape[-1])).abs().max() <= tol)


def at_most(values: torch.Tensor, bound: float, tol: float) -> bool:
    return bool((values <= bound + tol).all())


def positive(w: torch.Tensor, tol: float) -> bool:
    return symmetric(w, tol) and bool((torch.linalg.eigvalsh(w) >= 0.1 - tol).all())


def sums_to_one(w: torch.Tensor, tol: float) -> bool:
    return bool((w >= 0).all() and ((w.sum(-1) - 1).abs() <= tol * w.shape[-1]).all())


def sparse(w: torch.Tensor, tol: float) -> bool:
    rows = w.flatten(1) if w.ndim > 1 else w[None]
    return bool(((rows != 0).sum(1) <= 2).all())


MATRICES = (MATRIX, WIDE, SQUARE, BATCH)
ANY = (VECTOR, MATRIX, KERNEL)
CASES = [
    Case("non_neg", c.NonNeg(), ANY, lambda w, tol: bool((w >= 0).all())),
    Case("clip", c.Clip(-0.5, 0.25), ANY, lambda w, tol: bool(((w >= -0.5) & (w <= 0.25)).all())),
    Case("clip_below", c.Clip(min_value=0.5), ANY, lambda w, tol: bool((w >= 0.5).all())),
    Case("max_norm", c.MaxNorm(1.5), ANY, lambda w, tol: at_most(units(w), 1.5, tol)),
    Case(
        "max_norm_columns",
        c.MaxNorm(1.5, dim=0),
        (MATRIX, KERNEL),
        lambda w, tol: at_most(w.norm(dim=0), 1.5, tol),
    ),
    Case(
        "max_norm_whole",
        c.MaxNorm(1.5, dim=()),
        ANY,
        lambda w, tol: at_most(w.norm(), 1.5, tol),
    ),
    Case("unit_norm", c.UnitNorm(), ANY, lambda w, tol: bool(((units(w) - 1).abs() <= tol).all())),
    Case(
        "min_max_norm",
        c.MinMaxNorm(0.5, 1.5),
        ANY,
        lambda w, tol: at_most(units(w), 1.5, tol) and at_most(-units(w), -0.5, tol),
    ),
    Case("orthogonal", c.Orthogonal(), MATRICES, orthonormal),
    Case(
        "orthogonal_flat",
        c.Orthogonal(flatten=True),
        (MATRIX, KERNEL),
        lambda w, tol: orthonormal(w.flatten(1), tol),
    ),
    Case(
        "spectral_norm",
        c.SpectralNorm(1.2),
        MATRICES,
        lambda w, tol: at_most(spectrum(w), 1.2, tol),
    ),
    Case(
        "spectral_norm_scale",
        c.SpectralNorm(1.2, mode="scale"),
        MATRICES,
        lambda w, tol: at_most(spectrum(w), 1.2, tol),
        nearest=False,
    ),
    Case(
        "spectral_norm_flat",
        c.SpectralNorm(1.2, flatten=True),
        (KERNEL,),
        lambda w, tol: at_most(spectrum(w.flatten(1)), 1.2, tol),
    ),
    Case("symmetric", c.Symmetric(), (SQUARE, BATCH), symmetric),
    Case("positive_definite", c.PositiveDefinite(0.1), (SQUARE, BATCH), positive),
    Case("simplex", c.Simplex(), ANY, sums_to_one),
    Case("sparse", c.Sparse(2), ANY, sparse),
    Case(
        "sparse_part",
        c.Sparse(0.25, dim=(0, 1)),
        (MATRIX,),
        lambda w, tol: int((w != 0).sum()) <= 6,
    ),
    Case(
        "masked",
        c.Masked(MASK),
        (MATRIX, SQUARE),
        lambda w, tol: bool((w[..., ~MASK[0]] == 0).all()),
    ),
    Case(
        "non_neg_then_max_norm",
        c.NonNeg() & c.MaxNorm(1.5),
        ANY,
        lambda w, tol: bool((w >= 0).all()) and at_most(units(w), 1.5, tol),
        nearest=False,  # it is, for a cone and a ball; the law below does not rely on it
    ),
]
SHAPED = [(case, shape) for case in CASES for shape in case.shapes]
IDS = [f"{case}-{'x'.join(map(str, shape))}" for case, shape in SHAPED]
TOLERANCE = {
    torch.float64: 1e-6,  # the norms' epsilon, 1e-7, is in the definition
    torch.float32: 2e-5,
    torch.bfloat16: 4e-2,
    torch.float16: 5e-3,
}


def holds(case: Case, w: torch.Tensor) -> bool:
    """Return whether ``w`` satisfies a constraint, to its dtype's precision."""
    return case.holds(w.detach().double(), TOLERANCE[w.dtype])
