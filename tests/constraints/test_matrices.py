"""Constraints on matrices, and their forms that need only matrix products."""

from __future__ import annotations

import pytest
import torch

from torchcreator import constraints as c
from torchcreator._errors import VariableTypeError, VariableValueError
from torchcreator.constraints import _matrices, _polar

REAL_AND_COMPLEX = [torch.float64, torch.complex128]


@pytest.mark.parametrize("dtype", REAL_AND_COMPLEX, ids=str)
@pytest.mark.parametrize("shape", [(8, 8), (9, 4), (3, 6, 6)], ids=str)
class TestByProducts:
    """What runs on a device and in a CUDA graph, held against LAPACK."""

    def test_polar(self, shape, dtype) -> None:
        """The fixed sequence of polynomials reaches the polar factor."""
        w = well_conditioned(shape, dtype)
        torch.testing.assert_close(_polar.by_products(w), _polar.by_svd(w), rtol=0, atol=1e-9)

    def test_clamped(self, shape, dtype) -> None:
        """Two polar factors clamp singular values."""
        w = 2 * torch.randn(shape, dtype=dtype)
        ours = _matrices.clamped_by_products(w, 1.2)
        exact = _matrices.clamped_by_eigenvalues(w, 1.2)
        torch.testing.assert_close(ours, exact, rtol=0, atol=2e-2)
        assert torch.linalg.svdvals(ours).max() <= 1.2 + 1e-2

    def test_largest_eigenvalue(self, shape, dtype) -> None:
        """Repeated squaring bounds the largest eigenvalue from above, and closely."""
        w = torch.randn(shape, dtype=dtype)
        gram = w.mH @ w
        exact = torch.linalg.eigvalsh(gram)[..., -1]
        ours = _matrices.largest_eigenvalue(gram)[..., 0, 0]
        assert (ours >= exact * (1 - 1e-9)).all()
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=0)


def well_conditioned(shape, dtype) -> torch.Tensor:
    """Return matrices whose singular values lie between a hundredth of the largest and it."""
    u, s, vh = torch.linalg.svd(torch.randn(shape, dtype=dtype), full_matrices=False)
    return (u * s.clamp(min=0.01 * s.max()).unsqueeze(-2)) @ vh


@pytest.mark.parametrize("dtype", REAL_AND_COMPLEX, ids=str)
def test_raised_by_products(dtype) -> None:
    """The matrix sign raises eigenvalues as their decomposition does."""
    w = _matrices.symmetric(torch.randn(3, 6, 6, dtype=dtype))
    torch.testing.assert_close(
        _matrices.raised_by_products(w, 0.1), _matrices.raised(w, 0.1), rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("far", [1e-6, 1e-3, 1e-1, 10.0], ids=str)
@pytest.mark.parametrize("shape", [(6, 6), (8, 5), (5, 8), (4, 6, 6)], ids=str)
def test_polar_is_exact_near_and_far(far: float, shape) -> None:
    """A short way and a long one end at the same polar factor."""
    w = c.Orthogonal()(torch.randn(shape)) + far * torch.randn(shape)
    exact = _polar.by_svd(w.double())
    torch.testing.assert_close(c.Orthogonal()(w).double(), exact, rtol=0, atol=3e-4)


def test_nearly_orthogonal_ones_need_no_svd(monkeypatch) -> None:
    """After a small step the polar factor comes of a few products."""
    w = c.Orthogonal()(torch.randn(5, 8, 8)) + 1e-3 * torch.randn(5, 8, 8)
    monkeypatch.setattr(_polar, "by_svd", None)
    tall = c.Orthogonal()(w)
    torch.testing.assert_close(tall.mT @ tall, torch.eye(8).expand(5, 8, 8), rtol=0, atol=1e-5)


@pytest.mark.parametrize("w", [torch.zeros(3, 3), torch.ones(4, 2)], ids=["zero", "rank-one"])
def test_orthogonal_of_deficient_rank(w: torch.Tensor) -> None:
    """Where several matrices are nearest, one of them is found."""
    result = c.Orthogonal()(w)
    torch.testing.assert_close(result.mT @ result, torch.eye(w.shape[1]), rtol=0, atol=1e-5)


def test_a_diverged_matrix_does_not_spoil_its_batch() -> None:
    """In a stack of matrices only the one that is not finite stays as it is."""
    ws = [torch.randn(4, 4) for _ in range(3)]
    ws[1][0, 0] = torch.inf
    diverged = ws[1].clone()
    c.Orthogonal().project_(ws)
    assert torch.equal(ws[1], diverged)
    for w in (ws[0], ws[2]):
        torch.testing.assert_close(w.mT @ w, torch.eye(4), rtol=0, atol=1e-5)


def test_positive_definite_leaves_what_is_definite() -> None:
    """A symmetric matrix within the bound is left bit for bit."""
    a = torch.randn(4, 4)
    w = a @ a.mT
    w = (w + w.mT) / 2 + torch.eye(4)
    assert torch.equal(c.PositiveDefinite(0.5)(w), w)


@pytest.mark.parametrize("constraint", [c.Orthogonal(), c.SpectralNorm(9.0)], ids=repr)
def test_what_is_allowed_comes_back_as_a_new_tensor(constraint) -> None:
    """Writing to the result never writes to the argument."""
    w = torch.eye(3)
    result = constraint(w)
    assert torch.equal(result, w)
    result.zero_()
    assert torch.equal(w, torch.eye(3))


def test_complex_symmetric_means_hermitian() -> None:
    """A complex matrix equals its conjugate transpose."""
    w = c.Symmetric()(torch.randn(3, 3, dtype=torch.complex64))
    assert torch.equal(w, w.mH)


def test_scale_keeps_the_proportions() -> None:
    """Dividing keeps the ratios of the singular values; clamping does not."""
    w = torch.diag(torch.tensor([4.0, 2.0, 1.0]))
    assert c.SpectralNorm(2.0, mode="scale")(w).diag().tolist() == pytest.approx([2.0, 1.0, 0.5])
    assert c.SpectralNorm(2.0)(w).diag().tolist() == pytest.approx([2.0, 2.0, 1.0])


def test_flatten_takes_a_kernel_for_one_matrix() -> None:
    """A convolution's kernel is ``(out, in × height × width)``, as torch's initialisers see it."""
    w = c.Orthogonal(flatten=True)(torch.randn(4, 2, 3, 3)).flatten(1)
    torch.testing.assert_close(w @ w.mT, torch.eye(4), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("constraint", "shape", "message"),
    [
        pytest.param(c.Orthogonal(), (3,), "this has 1", id="vector"),
        pytest.param(c.Symmetric(), (3, 2), "not square", id="not-square"),
        pytest.param(c.PositiveDefinite(), (2, 3), "2 rows and 3 columns", id="wide"),
    ],
)
def test_shapes_without_such_a_matrix_are_refused(constraint, shape, message: str) -> None:
    """The error has the shape and says what is missing."""
    with pytest.raises(VariableTypeError, match=message):
        constraint(torch.ones(shape))


def test_an_unknown_mode_is_refused() -> None:
    """SpectralNorm clamps or scales."""
    with pytest.raises(VariableValueError, match="mode='divide'"):
        c.SpectralNorm(mode="divide")
