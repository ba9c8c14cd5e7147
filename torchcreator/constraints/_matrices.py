"""Constraints on matrices: the last two dimensions, those before them being a batch.

Each has a form that needs only matrix products, for devices where a factorisation would make the
host wait (and could not be captured in a CUDA graph); LAPACK serves on CPU.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch

from torchcreator._errors import VariableValueError, shown
from torchcreator.constraints._base import Projection, solving
from torchcreator.constraints._norms import not_negative
from torchcreator.constraints._polar import polar, where_finite

SQUARINGS = 16  # the largest eigenvalue of n by n to a relative log(n) / 2**17


class Matrix(Projection):
    """A projection of matrices ``(…, rows, columns)``."""

    square = False
    flatten = False

    def objection(self, w: torch.Tensor) -> str | None:
        """Return why ``w`` holds no such matrices, or None."""
        if w.ndim < 2:
            return f"a matrix has two dimensions, this has {w.ndim}"
        if self.square and w.shape[-1] != w.shape[-2]:
            return f"a matrix of {w.shape[-2]} rows and {w.shape[-1]} columns is not square"
        return super().objection(w)

    def project(self, w: torch.Tensor, ndim: int) -> torch.Tensor:
        """Return the projections of the matrices, computed at least in single precision."""
        batch = w.shape[: w.ndim - ndim]
        matrices = w.reshape(*batch, w.shape[len(batch)], -1) if self.flatten else w
        return self.nearest(solving(matrices)).to(w.dtype).reshape(w.shape)

    @abstractmethod
    def nearest(self, w: torch.Tensor) -> torch.Tensor:
        """Return the nearest matrices that are allowed."""


@dataclass(frozen=True)
class Orthogonal(Matrix):
    r"""The columns are orthonormal (the rows, where they are fewer).

    .. math:: W = U \Sigma V^H \;\mapsto\; U V^H

    The polar factor, the nearest such matrix (Fan and Hoffman, 1955). Complex matrices become
    unitary.

    Args:
        flatten: Take a tensor of more than two dimensions as one matrix ``(first, the others)``,
            as `torch.nn.init.orthogonal_` does, not as a batch of matrices.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> tc.constraints.Orthogonal()(torch.tensor([[2.0, 0.0], [0.0, -0.5]]))
        tensor([[ 1.,  0.],
                [ 0., -1.]])
    """

    flatten: bool = False

    def nearest(self, w: torch.Tensor) -> torch.Tensor:
        """Return the polar factors."""
        return polar(w)


@dataclass(frozen=True)
class SpectralNorm(Matrix):
    r"""No singular value exceeds a bound.

    .. math:: W = U \Sigma V^H \;\mapsto\; U \min(\Sigma, c) V^H

    With ``mode="clamp"`` the nearest matrix in the ball of the spectral norm: larger singular
    values are lowered to the bound, the others stay. ``mode="scale"`` divides the whole matrix,
    :math:`W \min(1, c / \sigma_1)`, as spectral normalisation does (Miyato and others, 2018).

    Args:
        max_value: The bound :math:`c`.
        mode: ``"clamp"`` or ``"scale"``.
        flatten: Take a tensor of more than two dimensions as one matrix ``(first, the others)``.

    Raises:
        VariableValueError: The bound is negative, or the mode is not known.
        VariableTypeError: The bound is no number.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> w = torch.diag(torch.tensor([4.0, 0.5]))
        >>> tc.constraints.SpectralNorm(1.0)(w).diag()
        tensor([1.0000, 0.5000])
        >>> tc.constraints.SpectralNorm(1.0, mode="scale")(w).diag()
        tensor([1.0000, 0.1250])
    """

    max_value: float = 1.0
    mode: Literal["clamp", "scale"] = "clamp"
    flatten: bool = False

    def __post_init__(self) -> None:
        not_negative(self, max_value=self.max_value)
        if self.mode not in ("clamp", "scale"):
            raise VariableValueError(
                f"SpectralNorm(mode={shown(self.mode)}) is not known.",
                "Singular values above the bound are lowered to it, or all are divided.",
                "Use mode='clamp' or mode='scale'.",
            )

    def nearest(self, w: torch.Tensor) -> torch.Tensor:
        """Return the matrices with their singular values clamped, or scaled."""
        tall = w if w.shape[-2] >= w.shape[-1] else w.mH
        change = scaled if self.mode == "scale" else clamped
        result = change(tall, self.max_value)
        return result if tall is w else result.mH


@dataclass(frozen=True)
class Symmetric(Matrix):
    r"""The matrix equals its transpose: :math:`W \mapsto (W + W^H) / 2`.

    The nearest symmetric matrix (Hermitian, where it is complex).

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> tc.constraints.Symmetric()(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
        tensor([[1., 1.],
                [1., 1.]])
    """

    square = True

    def nearest(self, w: torch.Tensor) -> torch.Tensor:
        """Return the symmetric parts."""
        return symmetric(w)


@dataclass(frozen=True)
class PositiveDefinite(Matrix):
    r"""The matrix is symmetric, and no eigenvalue is below a bound.

    .. math:: \tfrac{1}{2} (W + W^H) = V \Lambda V^H \;\mapsto\; V \max(\Lambda, a) V^H

    The nearest such matrix (Higham, 1988); Hermitian, where it is complex.

    Args:
        min_value: The bound :math:`a`. Choose it above the rounding error, about the largest
            eigenvalue times 1e-6 in single precision, where a Cholesky factor must exist.

    Raises:
        VariableValueError: ``min_value`` is negative.
        VariableTypeError: ``min_value`` is no number.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> tc.constraints.PositiveDefinite(0.5)(torch.diag(torch.tensor([2.0, -1.0]))).diag()
        tensor([2.0000, 0.5000])
    """

    square = True
    min_value: float = 1e-4

    def __post_init__(self) -> None:
        not_negative(self, min_value=self.min_value)

    def nearest(self, w: torch.Tensor) -> torch.Tensor:
        """Return the symmetric parts with their eigenvalues raised to the bound."""
        w = symmetric(w)
        if w.device.type != "cpu":
            return raised_by_products(w, self.min_value)
        shift = self.min_value * torch.eye(w.shape[-1], dtype=w.dtype)
        _, failed = torch.linalg.cholesky_ex(w - shift)
        if not failed.any():
            return w  # as it is, and at a tenth of the cost of finding its eigenvalues
        return where_finite(lambda finite: raised(finite, self.min_value), w)


def symmetric(w: torch.Tensor) -> torch.Tensor:
    """Return ``(w + w.mH) / 2``, without overflow."""
    return w / 2 + w.mH / 2


def raised(w: torch.Tensor, bound: float) -> torch.Tensor:
    """Return symmetric matrices with their eigenvalues raised to a bound."""
    values, vectors = torch.linalg.eigh(w)
    return symmetric((vectors * values.clamp(min=bound).unsqueeze(-2)) @ vectors.mH)


def raised_by_products(w: torch.Tensor, bound: float) -> torch.Tensor:
    """Return the same as `raised`, as ``max(x, a) = (x + a + |x - a|) / 2``.

    The polar factor of a symmetric matrix is its sign, and where the sign of an eigenvalue is in
    doubt, that is at the bound, it is multiplied by nearly nothing.
    """
    identity = torch.eye(w.shape[-1], dtype=w.dtype, device=w.device)
    above = w - bound * identity
    return symmetric(w + bound * identity + above @ polar(above)) / 2


def clamped(w: torch.Tensor, bound: float) -> torch.Tensor:
    """Return tall matrices with their singular values lowered to a bound."""
    if w.device.type != "cpu":
        return clamped_by_products(w, bound)
    if not (torch.linalg.matrix_norm(w) > bound).any():
        return w  # the Frobenius norm is never below the spectral one
    return where_finite(lambda finite: clamped_by_eigenvalues(finite, bound), w)


def clamped_by_eigenvalues(w: torch.Tensor, bound: float) -> torch.Tensor:
    """Return ``W V min(1, c / σ) V^H``: only what is above the bound is computed from squares."""
    values, vectors = torch.linalg.eigh(w.mH @ w)
    factors = (bound / values.clamp(min=0).sqrt()).clamp(max=1)
    factors = torch.where(values > 0, factors, 1).unsqueeze(-2)
    lowered: torch.Tensor = w @ (vectors * factors) @ vectors.mH
    return lowered


def clamped_by_products(w: torch.Tensor, bound: float) -> torch.Tensor:
    """Return the same: ``c · polar(W)`` where ``W^H W > c²``, and ``W`` elsewhere.

    Where a singular value is so near the bound that its side is in doubt, both are the same.
    """
    gram = w.mH @ w
    identity = torch.eye(w.shape[-1], dtype=w.dtype, device=w.device)
    larger = (identity + polar(gram - bound**2 * identity)) / 2
    return w + (bound * polar(w) - w) @ larger


def scaled(w: torch.Tensor, bound: float) -> torch.Tensor:
    """Return tall matrices divided so that their largest singular value is within a bound."""
    gram = w.mH @ w
    largest: torch.Tensor
    if w.device.type == "cpu":
        gram = torch.nan_to_num(gram, 0, 0, 0)
        largest = torch.linalg.eigvalsh(gram)[..., -1, None, None].clamp(min=0).sqrt()
    else:
        largest = largest_eigenvalue(gram).sqrt()
    return w * torch.where(largest > bound, bound / largest, 1)


def largest_eigenvalue(gram: torch.Tensor) -> torch.Tensor:
    r"""Return the largest eigenvalues of positive matrices, or a little more, by products.

    :math:`\lambda_1 \le \lVert G^p \rVert^{1/p} \le n^{1/2p} \lambda_1` for :math:`p` a high
    power, reached by squaring, with the norm taken out each time.
    """
    logarithm = torch.zeros_like(gram[..., :1, :1].abs())
    power = gram
    for squaring in range(SQUARINGS + 1):
        norm = torch.linalg.matrix_norm(power, keepdim=True)
        norm = norm.clamp(min=torch.finfo(norm.dtype).tiny)
        logarithm = logarithm + norm.log() / 2**squaring
        power = power / norm
        power = power @ power
    return logarithm.exp()
