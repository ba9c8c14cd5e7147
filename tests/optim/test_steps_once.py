"""A constraint acts once for each time a parameter was written, however often hooks run."""

from __future__ import annotations

import pytest
import torch

from tests.optim.optimizers import HALFWAY, Double, Scaling, Wrapping, still, vector


class TestOncePerWrite:
    """A constraint that is not idempotent shows how often it was applied."""

    def test_a_fused_step_leaves_no_version(self) -> None:
        """Why versions alone do not tell: should this fail, nothing need be forgotten any more."""
        p = still(vector(17.0, constraint=None))
        before = p._version
        torch.optim.SGD([p], lr=1.0, fused=True, weight_decay=0.5).step()
        assert p.item() == 8.5
        assert p._version == before

    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda ps: torch.optim.SGD(ps, lr=1.0), id="plain"),
            pytest.param(lambda ps: torch.optim.SGD(ps, lr=1.0, fused=True), id="fused"),
            pytest.param(lambda ps: Double(ps, lr=1.0), id="super-step"),
            pytest.param(lambda ps: Double(ps, lr=1.0, fused=True), id="super-step-fused"),
            pytest.param(lambda ps: Wrapping(torch.optim.SGD(ps, lr=1.0)), id="wrapped"),
            pytest.param(
                lambda ps: Wrapping(torch.optim.SGD(ps, lr=1.0, fused=True)), id="wrapped-fused"
            ),
            pytest.param(lambda ps: Wrapping(Double(ps, lr=1.0)), id="wrapped-super-step"),
        ],
    )
    def test_each_step_once(self, make) -> None:
        """However often torch runs its hooks in a step, the way is halved once."""
        p = still(vector(17.0, constraint=HALFWAY))
        opt = make([p])
        for expected in (9.0, 5.0, 3.0):
            opt.step()
            assert p.item() == pytest.approx(expected, rel=1e-5)

    def test_what_is_written_after_super_step(self) -> None:
        """A write after the inner hook is projected by the outer one."""
        p = still(vector(17.0, constraint=HALFWAY))
        Scaling([p], lr=1.0).step()
        assert p.item() == pytest.approx((90.0 + 1) / 2, rel=1e-5)

    def test_what_a_wrapper_averages_afterwards(self) -> None:
        """An optimizer that writes after the one it wraps has its writes projected."""
        p = still(vector(17.0, constraint=HALFWAY))
        Wrapping(torch.optim.SGD([p], lr=1.0), factor=10.0).step()
        assert p.item() == pytest.approx((90.0 + 1) / 2, rel=1e-5)

    def test_a_step_that_raises_leaves_nothing_behind(self) -> None:
        """After an exception in a closure the next step projects once, as ever."""
        p = still(vector(17.0, constraint=HALFWAY))
        opt = Double([p], lr=1.0)
        opt.step()

        def fail() -> float:
            raise OSError("no data")

        with pytest.raises(OSError, match="no data"):
            opt.step(fail)
        assert p.item() == pytest.approx(9.0, rel=1e-5)
        opt.step()
        assert p.item() == pytest.approx(5.0, rel=1e-5)

    def test_a_new_plan_remembers(self) -> None:
        """Variables made between an inner step and the outer one cause no second projection."""
        p = still(vector(17.0, constraint=HALFWAY))

        class Making(torch.optim.SGD):
            def step(self, closure=None):
                super().step(closure)
                vector(1.0)

        Making([p], lr=1.0).step()
        assert p.item() == pytest.approx(9.0, rel=1e-5)

    def test_accumulation(self) -> None:
        """Several backwards before one step are one write."""
        p = vector(17.0, constraint=HALFWAY)
        opt = torch.optim.SGD([p], lr=0.0)
        for _ in range(3):
            p.sum().backward()
        opt.step()
        assert p.item() == pytest.approx(9.0, rel=1e-5)

    def test_two_optimizers_with_one_parameter(self) -> None:
        """Each optimizer's step is a write of its own."""
        p = still(vector(17.0, constraint=HALFWAY))
        for opt in (torch.optim.SGD([p], lr=1.0), torch.optim.Adam([p], lr=0.0)):
            opt.step()
        assert p.item() == pytest.approx(5.0, rel=1e-5)
