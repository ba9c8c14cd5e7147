"""Constraints on FSDP2 shards, under ZeRO and under DDP, on real gloo ranks."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import torchcreator as tc
from tests.constraints.cases import CASES
from tests.optim.optimizers import gathered
from tests.support.ranks import run_ranks
from torchcreator import constraints as c
from torchcreator._errors import ConstraintError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch scripts functions here, which it deprecates
    from torch.distributed.optim import ZeroRedundancyOptimizer

HALFWAY = c.MinMaxNorm(0.0, 1.0, rate=0.5)


def same_on_all_ranks(w: torch.Tensor) -> bool:
    mine = w.detach().contiguous()
    first = mine.clone()
    dist.broadcast(first, 0)
    return torch.equal(mine, first)


class Constrained(nn.Module):
    """One parameter for each shape, all under one constraint."""

    def __init__(self, constraint: object, shapes: list[tuple[int, ...]]) -> None:
        super().__init__()
        torch.manual_seed(1)  # equal on all ranks
        self.names = [f"w{i}" for i in range(len(shapes))]
        for name, shape in zip(self.names, shapes, strict=True):
            value = 2 * torch.randn(shape)
            setattr(self, name, tc.variable(value, constraint=constraint, name=name))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum((getattr(self, name) * x).sum() for name in self.names)


def whole_step(constraint: object, shapes: list[tuple[int, ...]]) -> list[torch.Tensor]:
    """Return what one step of SGD and the constraint make of the whole parameters."""
    model = Constrained(constraint, shapes)
    function = tc.constraints.get(constraint)
    return [function(p.detach() - 0.5) for p in model.parameters()]


class TestFullyShard:
    """FSDP2 shards the first dimension: norms of units stay on a rank, others cross ranks."""

    @pytest.mark.parametrize("world_size", [2, 3])
    def test_every_constraint(self, world_size: int, tmp_path: Path) -> None:
        """After a step every sharded parameter equals the one that was never sharded."""

        def rank_main(rank: int) -> None:
            for case in CASES:
                shapes = list(case.shapes)
                expected = whole_step(case.constraint, shapes)
                model = Constrained(case.constraint, shapes)
                fully_shard(model)
                opt = torch.optim.SGD(model.parameters(), lr=0.5)
                model(torch.ones(1)).backward()
                opt.step()
                for p, value in zip(model.parameters(), expected, strict=True):
                    assert type(p).__name__ == "DTensor"
                    torch.testing.assert_close(
                        gathered(p),
                        value,
                        rtol=1e-4,
                        atol=1e-5,
                        msg=lambda m, case=case: f"{case}: {m}",
                    )

        run_ranks(rank_main, world_size, tmp_path)

    def test_one_all_reduce_for_all_variables(self, tmp_path: Path) -> None:
        """However many variables have norms across ranks, they share one collective."""

        def rank_main(rank: int) -> int:
            model = Constrained(c.MaxNorm(1.0, dim=0), [(4, 3), (5, 2), (6,), (4, 3)])
            fully_shard(model)
            opt = torch.optim.SGD(model.parameters(), lr=0.5)
            calls = []
            real = dist.all_reduce
            dist.all_reduce = lambda *args, **kwargs: (calls.append(1), real(*args, **kwargs))
            model(torch.ones(1)).backward()
            before = len(calls)
            opt.step()
            return len(calls) - before

        assert run_ranks(rank_main, 2, tmp_path) == [1, 1]

    def test_super_step_projects_once(self, tmp_path: Path) -> None:
        """The rule of one projection for a write holds for shards, also empty ones."""

        def rank_main(rank: int) -> None:
            class Double(torch.optim.SGD):
                def step(self, closure=None):
                    return super().step(closure)

            model = Constrained(HALFWAY, [(1,), (3, 2)])
            with torch.no_grad():
                model.w0.fill_(17.0)
            fully_shard(model)
            opt = Double(model.parameters(), lr=0.0)
            model(torch.ones(1)).backward()
            for expected in (9.0, 5.0):
                opt.step()
                assert gathered(model.w0).item() == pytest.approx(expected, rel=1e-5)

        run_ranks(rank_main, 2, tmp_path)

    def test_a_function_sees_the_whole(self, tmp_path: Path) -> None:
        """A callable is given the gathered parameter, and each rank keeps its shard."""

        def rank_main(rank: int) -> None:
            seen = []

            def centred(w: torch.Tensor) -> torch.Tensor:
                seen.append(tuple(w.shape))
                return w - w.mean()

            expected = whole_step(centred, [(5, 3)])[0]
            seen.clear()
            model = Constrained(centred, [(5, 3)])
            fully_shard(model)
            opt = torch.optim.SGD(model.parameters(), lr=0.5)
            model(torch.ones(1)).backward()
            opt.step()
            torch.testing.assert_close(gathered(model.w0), expected)
            assert seen == [(5, 3)]

        run_ranks(rank_main, 2, tmp_path)

    def test_a_function_that_fails_on_every_rank(self, tmp_path: Path) -> None:
        """All ranks raise the same error, and the other shards are projected."""

        def rank_main(rank: int) -> str:
            model = Constrained(lambda w: w[:1], [(4, 2)])
            model.good = tc.variable(-torch.ones(4), constraint="non_neg", name="good")
            model.names.append("good")
            fully_shard(model)
            opt = torch.optim.SGD(model.parameters(), lr=0.5)
            model(torch.ones(1)).backward()
            with pytest.raises(ConstraintError, match="another shape") as caught:
                opt.step()
            assert gathered(model.good).tolist() == [0.0] * 4
            return caught.value.args[1]

        first, second = run_ranks(rank_main, 2, tmp_path)
        assert first == second

    def test_after_an_evaluation_forward(self, tmp_path: Path) -> None:
        """A root that stays gathered after evaluation is projected by the steps that follow."""

        def rank_main(rank: int) -> None:
            model = Constrained("non_neg", [(4, 2)])
            fully_shard(model)
            opt = torch.optim.SGD(model.parameters(), lr=100.0)
            with torch.no_grad():
                model(torch.ones(1))
            for _ in range(2):
                model(torch.ones(1)).backward()
                opt.step()
            assert gathered(opt.param_groups[0]["params"][0]).eq(0).all()

        run_ranks(rank_main, 2, tmp_path)


class TestZeroRedundancy:
    """The inner optimizer projects its own shard before the broadcast sends it."""

    def test_once_for_each_parameter_and_equal_everywhere(self, tmp_path: Path) -> None:
        """With a constraint that is not idempotent, every rank has the value of one projection."""

        def rank_main(rank: int) -> None:
            model = Constrained(HALFWAY, [(1,), (1,), (1,)])
            with torch.no_grad():
                for p in model.parameters():
                    p.fill_(17.0)
            opt = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.0)
            for expected in (9.0, 5.0):
                model(torch.ones(1)).backward()
                opt.step()
                for p in model.parameters():
                    assert p.item() == pytest.approx(expected, rel=1e-5)
                    assert same_on_all_ranks(p)

        run_ranks(rank_main, 2, tmp_path)

    def test_each_rank_projects_its_own(self, tmp_path: Path) -> None:
        """The work is divided: no parameter is projected on two ranks."""

        def rank_main(rank: int) -> list[str]:
            projected: list[str] = []

            def note(name: str) -> object:
                return lambda w: (projected.append(name), w.clamp(min=0))[1]

            model = nn.Module()
            for name in ("a", "b", "c", "d"):
                setattr(model, name, tc.variable([-1.0], constraint=note(name), name=name))
            opt = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.1)
            for p in model.parameters():
                p.grad = torch.zeros_like(p)
            opt.step()
            assert [p.item() for p in model.parameters()] == [0.0] * 4
            return projected

        first, second = run_ranks(rank_main, 2, tmp_path)
        assert sorted(first + second) == ["a", "b", "c", "d"]

    def test_overlap_with_ddp_is_refused(self, tmp_path: Path) -> None:
        """Where no hook would run, a step says so instead of training without the constraint."""

        def rank_main(rank: int) -> None:
            model = Constrained("non_neg", [(2,)])
            opt = ZeroRedundancyOptimizer(
                model.parameters(), torch.optim.SGD, overlap_with_ddp=True, lr=0.1
            )
            with pytest.raises(ConstraintError, match=r"'w0' is constrained, and .* overlaps"):
                opt.step()

        run_ranks(rank_main, 2, tmp_path)


def test_data_parallel_ranks_agree(tmp_path: Path) -> None:
    """Under DDP every rank projects the same values to the same result."""

    def rank_main(rank: int) -> None:
        model = Constrained(c.Orthogonal(), [(4, 4), (3, 5)])
        ddp = DistributedDataParallel(model)
        opt = torch.optim.Adam(ddp.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            ddp(torch.full((1,), float(rank))).backward()
            opt.step()
        assert all(same_on_all_ranks(p) for p in model.parameters())
        torch.testing.assert_close(model.w0.mT @ model.w0, torch.eye(4), rtol=0, atol=1e-5)

    run_ranks(rank_main, 2, tmp_path)
