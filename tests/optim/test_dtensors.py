"""Constraints on DTensors, however they are laid out, on real gloo ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

import torchcreator as tc
from tests.constraints.cases import CASES, Case
from tests.optim.optimizers import gathered
from tests.support.ranks import run_ranks
from torchcreator import constraints as c
from torchcreator._spec.table import declaration_of, declare

PLACEMENTS = {
    "rows": ("S0",),
    "columns": ("S1",),
    "replicated": ("R",),
}
MESHES = {
    "replicated-by-rows": ("R", "S0"),
    "rows-by-columns": ("S0", "S1"),
    "columns-by-columns": ("S1", "S1"),
}


def placements(words: tuple[str, ...]) -> list[object]:
    return [Replicate() if word == "R" else Shard(int(word[1])) for word in words]


def check_dtensors(cases: list[Case], mesh: object, words: tuple[str, ...]) -> None:
    """Project DTensors by hand and compare with the whole."""
    for case in cases:
        torch.manual_seed(2)
        for shape in (s for s in case.shapes if len(s) >= 2):
            value = 2 * torch.randn(shape)
            sharded = distribute_tensor(value, mesh, placements(words), src_data_rank=None)
            p = nn.Parameter(sharded)
            module = nn.Module()
            constrain(module, p, case.constraint)
            tc.apply_constraints(module)
            torch.testing.assert_close(
                gathered(p),
                case.constraint(value),
                rtol=1e-4,
                atol=1e-5,
                msg=lambda m, case=case: f"{case} {words}: {m}",
            )


def constrain(module: nn.Module, p: nn.Parameter, constraint: object) -> None:
    like = declaration_of(tc.variable(torch.zeros(p.shape), constraint=constraint))
    module.w = p
    declare(module, "w", like)


class TestDTensor:
    """Every constraint, however its tensor is laid out."""

    @pytest.mark.parametrize("words", PLACEMENTS.values(), ids=PLACEMENTS)
    def test_one_dimension(self, words, tmp_path: Path) -> None:
        """Uneven and empty shards of rows, of columns, and replicas."""

        def rank_main(rank: int) -> None:
            check_dtensors(CASES, init_device_mesh("cpu", (3,)), words)

        run_ranks(rank_main, 3, tmp_path)

    def test_two_dimensions(self, tmp_path: Path) -> None:
        """Hybrid sharding, tensor parallelism beside sharding, and one dimension shared twice."""

        def rank_main(rank: int) -> None:
            mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))
            for words in MESHES.values():
                check_dtensors(CASES, mesh, words)

        run_ranks(rank_main, 4, tmp_path)

    def test_tensor_parallel_and_fully_shard(self, tmp_path: Path) -> None:
        """FSDP2 over a column-parallel layer lays rows out in strides; the whole is right."""

        def rank_main(rank: int) -> None:
            mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
            for constraint in (c.NonNeg(), c.MaxNorm(0.3), c.MaxNorm(0.3, dim=0), c.Orthogonal()):
                torch.manual_seed(3)
                with tc.creator_scope(lambda n, c=constraint, **kw: n(**{**kw, "constraint": c})):
                    model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.Softplus())
                expected = constraint(model[0].weight.detach() - 0.5)
                parallelize_module(model, mesh["tp"], {"0": ColwiseParallel()})
                fully_shard(model, mesh=mesh["dp"])
                opt = torch.optim.SGD(model.parameters(), lr=0.5)
                model(torch.ones(1, 6)).sum().backward()
                (weight,) = model.parameters()
                weight.grad.to_local().fill_(1)
                opt.step()
                torch.testing.assert_close(gathered(weight), expected, rtol=1e-4, atol=1e-5)

        run_ranks(rank_main, 4, tmp_path)
