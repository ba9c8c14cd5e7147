"""Train one small matrix under each constraint, and draw what becomes of it.

Run it with ``python examples/constraint_gallery.py``. With the name of a picture as its argument,
``gallery.png`` say, it also draws the matrices and their losses: ``pip install matplotlib`` first.
"""

from __future__ import annotations

import sys

import torch

import torchcreator as tc
from torchcreator import constraints as c

SIZE, STEPS = 8, 200
GALLERY: dict[str, tc.Constraint | None] = {
    "none": None,
    "NonNeg": c.NonNeg(),
    "Clip": c.Clip(-0.5, 0.5),
    "MaxNorm": c.MaxNorm(1.0),
    "UnitNorm": c.UnitNorm(),
    "MinMaxNorm": c.MinMaxNorm(0.5, 1.0),
    "Simplex": c.Simplex(),
    "Sparse": c.Sparse(2),
    "Masked": c.Masked(torch.ones(SIZE, SIZE).tril()),
    "Orthogonal": c.Orthogonal(),
    "SpectralNorm": c.SpectralNorm(1.0),
    "Symmetric": c.Symmetric(),
    "PositiveDefinite": c.PositiveDefinite(0.1),
    "NonNeg & UnitNorm": c.NonNeg() & c.UnitNorm(),
}


def train(constraint: tc.Constraint | None) -> tuple[torch.Tensor, list[float]]:
    """Pull a matrix towards a target that no constraint allows; return it and its losses."""
    torch.manual_seed(0)
    target = torch.randn(SIZE, SIZE)
    w = tc.variable(torch.zeros(SIZE, SIZE).fill_diagonal_(1.0), constraint=constraint)
    optimizer = torch.optim.Adam([w], lr=0.05)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = (w - target).square().mean()
        loss.backward()
        optimizer.step()  # the constraint holds from here on
        losses.append(loss.item())
    return w.detach(), losses


def draw(trained: dict[str, tuple[torch.Tensor, list[float]]], picture: str) -> None:
    """Draw each matrix above the course of its loss."""
    try:
        from matplotlib import pyplot
    except ImportError:
        sys.exit("The picture needs matplotlib: pip install matplotlib")
    figure, axes = pyplot.subplots(4, 7, figsize=(16, 9), layout="constrained")
    for i, (name, (w, losses)) in enumerate(trained.items()):
        row, column = divmod(i, 7)
        image, curve = axes[2 * row][column], axes[2 * row + 1][column]
        image.imshow(w, cmap="RdBu", vmin=-2, vmax=2)
        image.set(title=name, xticks=[], yticks=[])
        curve.plot(losses)
        curve.set(ylim=(0, 2), xlabel="step", ylabel="loss" if column == 0 else "")
    figure.savefig(picture, dpi=120)


def main() -> None:
    """Train under every constraint, print where each ends, and draw if a picture is asked for."""
    trained = {name: train(constraint) for name, constraint in GALLERY.items()}
    for name, (w, losses) in trained.items():
        largest = torch.linalg.svdvals(w)[0].item()
        print(f"{name:18} loss {losses[-1]:.2f}  smallest {w.min():5.2f}  largest σ {largest:.2f}")
    for picture in sys.argv[1:]:
        draw(trained, picture)


if __name__ == "__main__":
    main()
