"""One harness over every constraint, shape, dtype and optimizer."""

from __future__ import annotations

import copy
import io
import json
import pickle

import pytest
import torch

import torchcreator as tc
from tests.constraints.cases import CASES, IDS, SHAPED, TOLERANCE, Case, holds

DTYPES = list(TOLERANCE)
OPTIMIZERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.3, momentum=0.9),
    "sgd_fused": lambda ps: torch.optim.SGD(ps, lr=0.3, fused=True),
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.3),
    "adamw_loop": lambda ps: torch.optim.AdamW(ps, lr=0.3, foreach=False),
    "adagrad": lambda ps: torch.optim.Adagrad(ps, lr=0.3),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, lr=0.05),
    "adadelta": lambda ps: torch.optim.Adadelta(ps, lr=3.0),
    "nadam": lambda ps: torch.optim.NAdam(ps, lr=0.3),
    "asgd": lambda ps: torch.optim.ASGD(ps, lr=0.3),
    "rprop": lambda ps: torch.optim.Rprop(ps, lr=0.1),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("case", "shape"), SHAPED, ids=IDS)
class TestEveryTensor:
    def test_satisfies_the_definition(self, case: Case, shape, dtype) -> None:
        """The result is in the set, and keeps shape, dtype and device; the input is left alone."""
        w = (2 * torch.randn(shape, dtype=torch.float64)).to(dtype)
        before = w.clone()
        result = case.constraint(w)
        assert holds(case, result)
        assert (result.shape, result.dtype, result.device) == (w.shape, w.dtype, w.device)
        assert torch.equal(w, before)
        assert result.data_ptr() != w.data_ptr()

    def test_is_idempotent(self, case: Case, shape, dtype) -> None:
        """Projecting what was projected changes nothing beyond rounding."""
        once = case.constraint((2 * torch.randn(shape, dtype=torch.float64)).to(dtype))
        twice = case.constraint(once)
        assert twice.data_ptr() != once.data_ptr()
        torch.testing.assert_close(twice, once, rtol=0, atol=TOLERANCE[dtype])

    def test_batched_form_is_the_pure_form(self, case: Case, shape, dtype) -> None:
        """Projecting a list in place gives each tensor what the pure form gives it alone."""
        ws = [(2 * torch.randn(shape, dtype=torch.float64)).to(dtype) for _ in range(3)]
        ws.append(
            torch.randn(shape[::-1], dtype=torch.float64)
            .to(dtype)
            .permute(*reversed(range(len(shape))))
        )  # not contiguous
        expected = [case.constraint(w) for w in ws]
        case.constraint.project_(ws)
        for w, value in zip(ws, expected, strict=True):
            torch.testing.assert_close(w, value, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_holds_after_each_of_three_steps(case: Case, optimizer) -> None:
    """Every optimizer's every step leaves every constrained parameter in its set."""
    ps = [tc.variable(torch.randn(shape), constraint=case.constraint) for shape in case.shapes]
    free = tc.variable(torch.randn(3))
    target = [5 * torch.randn(shape) for shape in case.shapes]
    opt = optimizer([*ps, free])
    for _ in range(3):
        opt.zero_grad()
        loss = sum(((p - t) ** 2).sum() for p, t in zip(ps, target, strict=True))
        (loss + free.sum()).backward()
        opt.step()
        assert all(holds(case, p) for p in ps)
    assert not any(torch.equal(p, t) for p, t in zip(ps, target, strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
class TestEveryConstraintIsAValue:
    def test_equal_to_its_copies(self, case: Case) -> None:
        """A constraint equals its deep copy, its pickle and its reading with weights_only."""
        file = io.BytesIO()
        torch.save({"constraint": case.constraint}, file)
        file.seek(0)
        copies = [
            copy.deepcopy(case.constraint),
            pickle.loads(pickle.dumps(case.constraint)),
            torch.load(file, weights_only=True)["constraint"],
            tc.constraints.picklable(case.constraint, "w"),
        ]
        for same in copies:
            assert same == case.constraint
            assert hash(same) == hash(case.constraint)

    def test_config_round_trip(self, case: Case) -> None:
        """The config is JSON, and makes an equal constraint."""
        config = json.loads(json.dumps(tc.constraints.to_config(case.constraint)))
        assert tc.constraints.from_config(config) == case.constraint
        assert tc.constraints.get(config) == case.constraint

    def test_differs_from_the_others(self, case: Case) -> None:
        """No two constraints of other arguments are equal."""
        assert [other.name for other in CASES if other.constraint == case.constraint] == [case.name]

    def test_not_finite_stays_not_finite(self, case: Case) -> None:
        """A diverged parameter passes through without an error, and is not made to look well."""
        w = torch.randn(case.shapes[0])
        w.view(-1)[0] = torch.nan
        assert not torch.isfinite(case.constraint(w)).all()

    def test_empty(self, case: Case) -> None:
        """A tensor without elements comes back as it is."""
        for w in (torch.empty(0, 3, 4), torch.empty(0, 4), torch.empty(4, 0)):
            if case.constraint.objection(w) is None:
                assert case.constraint(w).shape == w.shape

    def test_differentiable_at_a_point_of_the_set(self, case: Case) -> None:
        """The pure form records its gradient: it may be used inside a forward, too."""
        w = case.constraint(torch.randn(case.shapes[0])).requires_grad_()
        case.constraint(w).sum().backward()
        assert w.grad is not None
