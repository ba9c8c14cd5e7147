"""Where a constraint is a Euclidean projection, nothing in its set is nearer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import polar as scipy_polar
from scipy.optimize import minimize

from tests.constraints.cases import IDS, SHAPED, Case
from torchcreator import constraints as c

NEAREST = [
    pytest.param(case, shape, id=name)
    for (case, shape), name in zip(SHAPED, IDS, strict=True)
    if case.nearest
]


@pytest.mark.parametrize(("case", "shape"), NEAREST)
def test_no_point_of_the_set_is_nearer(case: Case, shape) -> None:
    """Of many points of the set, near and far, none is nearer than the projection."""
    w = 2 * torch.randn(shape, dtype=torch.float64)
    ours = case.constraint(w)
    distance = (ours - w).norm()
    for size in (1e-3, 1e-2, 0.1, 1.0, 10.0):
        for _ in range(20):
            rival = case.constraint(ours + size * torch.randn_like(w))
            assert (rival - w).norm() >= distance - 1e-6


def optimum(w: np.ndarray, feasible) -> np.ndarray:
    """Return scipy's nearest point, over a parametrisation ``feasible(x)`` of the set."""
    starts = [np.random.default_rng(seed).normal(size=w.size) for seed in range(4)]
    best = min(
        (minimize(lambda x: ((feasible(x) - w) ** 2).sum(), start) for start in starts),
        key=lambda found: found.fun,
    )
    return feasible(best.x)


def test_simplex_is_scipys_optimum() -> None:
    """The closed form agrees with a general solver under the same constraints."""
    w = torch.randn(6, dtype=torch.float64)
    found = minimize(
        lambda x: ((x - w.numpy()) ** 2).sum(),
        np.full(6, 1 / 6),
        bounds=[(0, None)] * 6,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        tol=1e-12,
    )
    np.testing.assert_allclose(c.Simplex()(w).numpy(), found.x, atol=1e-5)


def test_positive_definite_is_scipys_optimum() -> None:
    """The raised eigenvalues agree with a search over ``L Lᵀ + a I``."""
    w = torch.randn(3, 3, dtype=torch.float64).numpy()
    found = optimum(w, lambda x: x.reshape(3, 3) @ x.reshape(3, 3).T + 0.1 * np.eye(3))
    ours = c.PositiveDefinite(0.1)(torch.from_numpy(w)).numpy()
    np.testing.assert_allclose(ours, found, atol=1e-3)


def test_spectral_norm_is_scipys_optimum() -> None:
    """The clamped singular values agree with a search over matrices in the ball."""
    w = 2 * torch.randn(3, 2, dtype=torch.float64).numpy()

    def feasible(x: np.ndarray) -> np.ndarray:
        x = x.reshape(3, 2)
        return x / max(1, np.linalg.norm(x, 2))

    ours = c.SpectralNorm(1.0)(torch.from_numpy(w)).numpy()
    assert ((ours - w) ** 2).sum() <= ((optimum(w, feasible) - w) ** 2).sum() + 1e-6


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)], ids=str)
def test_orthogonal_is_scipys_polar_factor(shape) -> None:
    """The result is the polar factor that scipy finds."""
    w = torch.randn(shape, dtype=torch.float64)
    np.testing.assert_allclose(c.Orthogonal()(w).numpy(), scipy_polar(w.numpy())[0], atol=1e-10)


def test_unit_norm_max_norm_and_masked_by_hand() -> None:
    """On a vector of length five the nearest points are known."""
    w = torch.tensor([[3.0, 4.0]])
    assert c.UnitNorm()(w).tolist() == [pytest.approx([0.6, 0.8])]
    assert c.MaxNorm(2.5)(w).tolist() == [pytest.approx([1.5, 2.0])]
    assert c.MinMaxNorm(10.0, 20.0)(w).tolist() == [pytest.approx([6.0, 8.0])]
    assert c.Masked([True, False])(w).tolist() == [[3.0, 0.0]]


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8), st.integers(1, 8))
@settings(max_examples=60)
def test_sparse_keeps_the_largest(values: list[float], k: int) -> None:
    """The k largest magnitudes stay as they are, and all else is zero."""
    w = torch.tensor(values, dtype=torch.float64)
    kept = c.Sparse(k)(w)
    assert ((kept == w) | (kept == 0)).all()
    largest = w.abs().sort(descending=True).values[:k]
    assert torch.equal(kept.abs().sort(descending=True).values[:k], largest)
    assert int((kept != 0).sum()) <= k


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8), st.floats(0.0, 10.0))
@settings(max_examples=60)
def test_simplex_holds_for_any_vector(values: list[float], total: float) -> None:
    """The sum and the signs are right, whatever the vector."""
    w = c.Simplex(total)(torch.tensor(values, dtype=torch.float64))
    assert (w >= 0).all()
    assert w.sum().item() == pytest.approx(total, abs=1e-9)
