"""The polar factor: the nearest matrix with orthonormal rows or columns, in two ways.

On CPU it looks how far there is to go, and goes that far. Elsewhere looking would synchronise, so
a fixed sequence of polynomials does, which needs nothing but matrix products.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

SCHEDULE = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
    (1.875, -1.25, 0.375),
)
"""Odd quintics that take singular values in [0.001, 1] to 1 as fast as quintics can.

Source: Amsel, Persson, Musco, Gower, "The Polar Express" (2025), followed by Newton and Schulz'
quintic, to which the sequence tends.
"""
SAFETY = 1.01  # the sequence was made for singular values a little below 1
NEAR = 0.75  # a root mean square departure from orthonormality from which iterating pays
ITERATIONS = 6


def polar(w: torch.Tensor) -> torch.Tensor:
    """Return the polar factors of matrices ``(…, rows, columns)``.

    Of a matrix of full rank it is the nearest one with orthonormal columns (rows, where it is
    wide). Of others it is one of the nearest; off the CPU, directions whose singular value is
    below a thousandth of the largest come out shorter than 1.

    Args:
        w: Matrices in single or double precision, real or complex.
    """
    if w.shape[-2] < w.shape[-1]:
        return polar(w.mH).mH
    return near_or_exact(w) if w.device.type == "cpu" else by_products(w)


def near_or_exact(x: torch.Tensor) -> torch.Tensor:
    """Return the polar factors of tall matrices; quickly, where they are nearly orthonormal.

    After a small step of an optimizer they are: then :math:`(I - E)^{-1/2}`, where
    :math:`E = I - X^H X`, is its series' first three terms, once or twice over.
    """
    size = x.shape[-1] ** 0.5  # the norm of the identity, which departures are measured by
    precision = torch.finfo(x.dtype).eps * size
    identity = torch.eye(x.shape[-1], dtype=x.dtype)
    y = x.reshape(-1, *x.shape[-2:])
    for _ in range(ITERATIONS):
        departure = identity - y.mH @ y
        far = departure.norm(dim=(-2, -1)).max().item()
        if not far < NEAR * size:
            break
        if far < precision:
            return y.view(x.shape)
        y = y + y @ torch.baddbmm(departure, departure, departure, beta=0.5, alpha=0.375)
        if far**3 < precision:  # what the next departure is below
            return y.view(x.shape)
    return where_finite(by_svd, x)


def by_svd(x: torch.Tensor) -> torch.Tensor:
    """Return the polar factors of matrices by their definition."""
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    factors: torch.Tensor = u @ vh
    return factors


def by_products(x: torch.Tensor) -> torch.Tensor:
    """Return the polar factors of tall matrices without waiting for a device."""
    size = x.abs()
    # Two bounds of the largest singular value, each tight where the other is not.
    bound = torch.minimum(
        torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True),
        (
            size.sum(-1, keepdim=True).amax(-2, keepdim=True)
            * size.sum(-2, keepdim=True).amax(-1, keepdim=True)
        ).sqrt(),
    )
    x = x / (bound * SAFETY).clamp_min(torch.finfo(x.dtype).tiny)
    for a, b, c in SCHEDULE:
        gram = x.mH @ x
        x = a * x + x @ (b * gram + c * (gram @ gram))
    return x


def where_finite(f: Callable[[torch.Tensor], torch.Tensor], w: torch.Tensor) -> torch.Tensor:
    """Return ``f`` of the finite matrices and the others as they are.

    LAPACK raises for them; but a run that has diverged is not the constraint's fault.
    """
    finite = torch.isfinite(w).all(-1, keepdim=True).all(-2, keepdim=True)
    return torch.where(finite, f(torch.where(finite, w, 0)), w)
