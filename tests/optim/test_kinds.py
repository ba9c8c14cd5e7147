"""Parameters of every kind: frozen, integer, half, complex, empty; and functions that misbehave."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import constraints as c
from torchcreator._errors import ConstraintError, VariableTypeError
from torchcreator._optim.groups import Constrained
from torchcreator._optim.plan import Plan, _unless


def stepped(*parameters: nn.Parameter, lr: float = 1.0) -> None:
    """Take one step with gradients of one."""
    for p in parameters:
        p.grad = torch.ones_like(p)
    torch.optim.SGD(parameters, lr=lr).step()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["non_neg", "max_norm", "unit_norm", "orthogonal", "simplex"])
def test_half_precision(name: str, dtype) -> None:
    """Low-precision parameters are projected through single precision, and stay what they are."""
    p = tc.variable(torch.randn(4, 4).to(dtype), constraint=name)
    stepped(p)
    assert p.dtype == dtype
    once = p.detach().clone()
    tc.apply_constraints(p)
    torch.testing.assert_close(p.detach(), once, rtol=0, atol=2e-2)


def test_complex() -> None:
    """Norms, matrices and masks are defined for complex parameters."""
    for constraint in (c.MaxNorm(1.0), c.Orthogonal(), c.Symmetric(), c.Sparse(1)):
        p = tc.variable(torch.randn(3, 3, dtype=torch.complex64), constraint=constraint)
        stepped(p)
        torch.testing.assert_close(constraint(p.detach()), p.detach(), rtol=0, atol=1e-5)


def test_a_constraint_that_is_not_defined_is_named_and_the_others_hold() -> None:
    """NonNeg of complex numbers is an error with the variable's name; nothing else is lost."""
    bad = attached(torch.ones(2, dtype=torch.complex64), c.NonNeg(), "phase")
    good = tc.variable([-1.0], constraint="non_neg")
    with pytest.raises(VariableTypeError, match=r"NonNeg\(\) cannot constrain variable 'phase'"):
        stepped(bad, good)
    assert good.item() == 0.0


def attached(value: torch.Tensor, constraint: object, name: str) -> nn.Parameter:
    """Return a parameter with a constraint that `variable` might refuse."""
    from torchcreator._spec.table import attach, declaration_of

    like = declaration_of(tc.variable([1.0], constraint="non_neg"))
    p = nn.Parameter(value)
    attach(p, like._replace(name=name, constraint=constraint))
    return p


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)], ids=str)
@pytest.mark.parametrize("name", ["non_neg", "max_norm", "simplex"])
def test_empty(name: str, shape) -> None:
    """A parameter without elements takes part in steps like any other."""
    p = tc.variable(torch.empty(shape), constraint=name)
    stepped(p, tc.variable(torch.ones(3, 3), constraint=name))
    assert p.shape == shape


def test_frozen_and_integer_parameters() -> None:
    """Steps do not reach them; `apply_constraints` does."""
    frozen = tc.variable([-1.0], constraint="non_neg", trainable=False)
    counts = tc.variable([-1, 2], constraint="non_neg", dtype=torch.int64)
    moving = tc.variable([-1.0], constraint="non_neg")
    moving.grad = torch.ones(1)
    torch.optim.SGD([moving, frozen], lr=1.0).step()
    assert (moving.item(), frozen.item(), counts.tolist()) == (0.0, -1.0, [-1, 2])
    tc.apply_constraints([frozen, counts])
    assert (frozen.item(), counts.tolist()) == (0.0, [0, 2])


def test_not_contiguous_and_views() -> None:
    """A parameter that is a view of another storage is projected where it lies."""
    base = torch.full((4, 4), -1.0)
    p = attached(base.t()[:2], c.NonNeg(), "rows")
    q = attached(torch.full((3, 5), 9.0).t(), c.MaxNorm(1.0), "columns")
    stepped(p, q)
    assert base[:, :2].eq(0).all()
    assert base[:, 2:].eq(-1).all()
    assert q.norm(dim=1).tolist() == pytest.approx([1.0] * 5)


def test_large_ones_alone_and_small_ones_together() -> None:
    """The same result, however many elements a parameter has."""
    for shape, count in (((3, 4), 5), ((2, 40_000), 2), ((300, 200), 6)):
        ps = [tc.variable(torch.randn(shape), constraint=c.MaxNorm(0.5)) for _ in range(count)]
        expected = [c.MaxNorm(0.5)(p.detach() - 1) for p in ps]
        stepped(*ps)
        for p, value in zip(ps, expected, strict=True):
            torch.testing.assert_close(p.detach(), value)


def test_between_forward_and_backward() -> None:
    """A step between a forward and its backward is torch's error, with or without constraints."""
    p, q = tc.variable([2.0], constraint="non_neg"), tc.variable([2.0])
    loss = (p * p).sum()
    p.grad = torch.ones(1)
    torch.optim.SGD([p, q], lr=1.0).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


class TestApplyByHand:
    """`apply_constraints` projects what no step wrote."""

    @pytest.mark.parametrize("kind", ["module", "parameter", "list", "generator"])
    def test_takes(self, kind: str) -> None:
        """A module, a parameter, parameters."""
        model = nn.Module()
        model.w = tc.variable([-1.0], constraint="non_neg", name="w")
        tc.apply_constraints(
            {
                "module": model,
                "parameter": model.w,
                "list": [model.w],
                "generator": model.parameters(),
            }[kind]
        )
        assert model.w.item() == 0.0

    @pytest.mark.parametrize("source", [3, "w", [1.0], None], ids=repr)
    def test_refuses(self, source) -> None:
        """Anything else is named."""
        with pytest.raises(VariableTypeError, match=r"apply_constraints\(\) got .* no parameter"):
            tc.apply_constraints(source)

    def test_lazy_parameters_wait(self) -> None:
        """A parameter without a shape has nothing to project yet."""
        with tc.creator_scope(tc_constrain):
            model = nn.Sequential(nn.LazyLinear(2), nn.Linear(2, 2))
        tc.apply_constraints(model)
        assert (model[1].weight >= 0).all()
        model(torch.ones(1, 3))
        tc.apply_constraints(model)
        assert (model[0].weight >= 0).all()

    def test_names_are_full(self) -> None:
        """In a module's parameters an error has the full name."""
        model = nn.Sequential(nn.Linear(2, 2))
        model[0].weight = tc.variable([1.0], constraint=lambda w: None, name="weight")
        with pytest.raises(ConstraintError, match=r"'0.weight'"):
            tc.apply_constraints(model)


def tc_constrain(next_creator, **kwargs):
    return next_creator(**{**kwargs, "constraint": "non_neg"})


def complain(w: torch.Tensor) -> torch.Tensor:
    raise KeyError("nothing here")


class TestFunctionsThatMisbehave:
    """The variable is named and left as the optimizer wrote it; the others are projected."""

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            pytest.param(lambda w: None, r"'NAME'.*returned None", id="none"),
            pytest.param(
                lambda w: w.sum(), r"'NAME'(.|\n)*expected: torch.Size\(\[2\]\)", id="shape"
            ),
            pytest.param(lambda w: w.double(), r"'NAME'(.|\n)*actual: *torch.float64", id="dtype"),
            pytest.param(lambda w: w / 0, r"'NAME' made NaN or infinity of finite", id="inf"),
            pytest.param(lambda w: w.fill_(torch.nan), r"'NAME' made NaN", id="nan-in-place"),
            pytest.param(complain, r"'NAME' raised KeyError: 'nothing here'", id="raises"),
        ],
    )
    def test_named_and_untouched(self, function, message: str) -> None:
        """Each way to misbehave is an error of its own."""
        bad = tc.variable([3.0, -3.0], constraint=function, name="bad")
        fine = tc.variable([3.0], constraint=lambda w: w.clamp(max=1.0))
        good = [tc.variable([-3.0], constraint="non_neg") for _ in range(2)]
        name = tc.spec_of(bad).name
        with pytest.raises(ConstraintError, match=message.replace("NAME", name)) as caught:
            stepped(good[0], bad, fine, good[1])
        assert bad.tolist() == [2.0, -4.0]
        assert [p.item() for p in (*good, fine)] == [0.0, 0.0, 1.0]
        assert len(caught.value.args) == 3

    def test_after_a_step_the_name_is_full(self) -> None:
        """An optimizer knows no names; the error has the one in the outermost module."""
        model = nn.Sequential(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)))
        for i, constraint in enumerate((lambda w: None, c.Symmetric())):
            model[0][i].weight = attached(torch.ones(1), constraint, "weight")
        with pytest.raises(ConstraintError, match=r"'0\.0\.weight'"):
            stepped(model[0][0].weight)
        with pytest.raises(VariableTypeError, match=r"'0\.1\.weight'"):
            stepped(model[0][1].weight)

    def test_modules_in_a_circle_have_names(self) -> None:
        """Looking for a name ends, whatever the modules' shape."""
        outer, inner = nn.Module(), nn.Linear(1, 1)
        outer.inner = inner
        inner._modules["back"] = outer
        inner.weight = tc.variable([1.0], constraint=lambda w: None, name="weight")
        with pytest.raises(ConstraintError, match=r"'.*inner\.weight'"):
            stepped(inner.weight)

    def test_the_cause_is_kept(self) -> None:
        """What a function raised is the cause of our error."""
        with pytest.raises(ConstraintError, match="KeyError") as caught:
            stepped(tc.variable([1.0], constraint=complain))
        assert isinstance(caught.value.__cause__, KeyError)

    def test_several_are_counted(self) -> None:
        """The first is named, the others are counted."""
        ps = [tc.variable([1.0], constraint=lambda w: None) for _ in range(3)]
        first = tc.spec_of(ps[0]).name
        with pytest.raises(ConstraintError, match=rf"'{first}'.*\n.*2 more variables"):
            stepped(*ps)

    def test_each_step_says_so(self) -> None:
        """An error that is caught is not forgotten: the next step raises it again."""
        p = tc.variable([1.0], constraint=lambda w: None)
        opt = torch.optim.SGD([p], lr=1.0)
        p.grad = torch.ones(1)
        for _ in range(2):
            with pytest.raises(ConstraintError, match="returned None"):
                opt.step()
        assert p.item() == -1.0

    def test_a_diverged_run_is_not_the_functions_fault(self) -> None:
        """What was not finite before may stay so."""
        p = tc.variable([torch.inf, 1.0], constraint=lambda w: w.clamp(min=-1.0))
        stepped(p)
        assert p.tolist() == [torch.inf, 0.0]

    def test_a_lambda_that_cannot_be_hashed(self) -> None:
        """A callable object need not be hashable."""

        class Cap(list):
            def __call__(self, w: torch.Tensor) -> torch.Tensor:
                return w.clamp(max=self[0])

        p = tc.variable([9.0], constraint=Cap([1.0]))
        stepped(p)
        assert p.item() == 1.0

    def test_inside_a_composition(self) -> None:
        """A function between ready-made constraints is looked at, too."""
        p = tc.variable([3.0], constraint=c.NonNeg() & (lambda w: None))
        with pytest.raises(ConstraintError, match=rf"'{tc.spec_of(p).name}'.*returned None"):
            stepped(p)
        assert p.item() == 2.0


@pytest.mark.parametrize("found", [0.0, 1.0], ids=["taken", "skipped"])
def test_a_skipped_step_on_a_device_is_undone_there(found: float) -> None:
    """Where nothing may be read back, the projection is undone by a select on the device."""
    p = nn.Parameter(torch.tensor([-1.0]))
    (group,) = Plan([Constrained("w", p, c.NonNeg())]).groups
    with torch.no_grad():
        assert _unless(torch.tensor([found]), group, [p]) == []
    assert p.item() == (-1.0 if found else 0.0)


READY_MADE = [
    *(c.NonNeg(), c.Clip(-1.0, 1.0), c.MaxNorm(), c.UnitNorm(), c.MinMaxNorm(rate=0.5)),
    *(c.Simplex(), c.Sparse(2), c.Masked(torch.ones(4, 4).tril()), c.NonNeg() & c.MaxNorm()),
    *(c.Orthogonal(), c.Symmetric(), c.PositiveDefinite()),
    *(c.SpectralNorm(), c.SpectralNorm(mode="scale")),
]


@pytest.mark.parametrize(
    "constraint",
    READY_MADE,
    ids=["-".join(re.findall(r"[A-Z]\w+|scale", repr(r))) for r in READY_MADE],
)
def test_nothing_is_read_back_from_a_device(constraint) -> None:
    """On a device that has no values to give, every ready-made projection runs to its end."""
    ghost = nn.Parameter(torch.empty(4, 4, device="meta"))
    ghost.grad = torch.empty_like(ghost)
    plan = Plan([Constrained("w", ghost, constraint)])
    plan.everything()
    plan.after_step(None)
    assert ghost.is_meta
