"""`build(seed=...)`: a stream per draw, so that values depend on names and on nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from scipy import stats
from torch import nn

import torchcreator as tc
from tests.build.constructors import CONSTRUCTORS
from tests.build.same import assert_same_model, tensors_of
from torchcreator._build.build import build
from torchcreator._errors import VariableTypeError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def identity(next_creator, **kwargs):
    return next_creator(**kwargs)


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_reproducible(name, threads):
    """The seed alone decides: not the generator, the threads, or whether creators are asked."""
    factory = CONSTRUCTORS[name]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    threads(1)
    first = build(factory, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    threads(8)
    assert_same_model(build(factory, seed=3), first)
    with tc.creator_scope(identity):
        assert_same_model(build(factory, seed=3), first)


class Wide(nn.Module):
    """Large enough for threads, with initialisations that are overwritten."""

    def __init__(self, order=("a", "b", "c")):
        super().__init__()
        for name in order:
            self.add_module(name, nn.Linear(600, 500))
        for layer in self.children():
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.trunc_normal_(layer.bias, std=0.02)


def test_threads_make_no_difference(threads):
    """One thread and eight give the same values where the work is shared out."""
    threads(1)
    alone = build(Wide, seed=0)
    threads(8)
    assert_same_model(build(Wide, seed=0), alone)


def test_skipping_changes_nothing():
    """What a creator answers itself leaves every other parameter as it was."""

    def skip_b(next_creator, **kwargs):
        if kwargs["name"].startswith("b."):
            kwargs["initial_value"] = torch.zeros(kwargs["shape"])
        return next_creator(**kwargs)

    whole = tensors_of(build(Wide, seed=0))
    with tc.creator_scope(skip_b):
        partial = tensors_of(build(Wide, seed=0))
    for name, tensor in partial.items():
        assert torch.equal(tensor, whole[name]) is not name.startswith("b.")


def test_order_changes_nothing():
    """Modules made in another order have the same values: they belong to names."""
    forward = tensors_of(build(Wide, seed=0))
    backward = tensors_of(build(Wide, ("c", "b", "a"), seed=0))
    assert forward.keys() == backward.keys()
    for name, tensor in backward.items():
        assert torch.equal(tensor, forward[name])


def test_streams_differ():
    """Two parameters of one shape, and two seeds, have different values."""
    first, second = build(Wide, seed=0), build(Wide, seed=1)
    assert not torch.equal(first.a.weight, first.b.weight)
    assert not torch.equal(first.a.weight, second.a.weight)


def test_copies_of_a_prototype_stay_equal():
    """One draw has one stream, so copies of one layer are equal as in plain torch."""

    def factory():
        layer = nn.Linear(3, 3)
        return nn.ModuleList(copy.deepcopy(layer) for _ in range(3))

    model = build(factory, seed=0)
    assert torch.equal(model[0].weight, model[2].weight)


def test_what_python_saw_is_kept():
    """A constructor that draws until it likes the value gets the value that it liked."""

    def factory():
        layer = nn.Linear(4, 4)
        with torch.no_grad():
            while layer.weight.abs().max() > 0.2:
                layer.weight.normal_(std=0.1)
        return layer

    for seed in range(20):
        assert build(factory, seed=seed).weight.abs().max() <= 0.2


def test_distributions_are_those_of_the_plain_constructor():
    """Two-sample Kolmogorov-Smirnov tests cannot tell seeded from plain values."""

    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            size = (100, 100)
            self.uniform = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(size)))
            self.normal = nn.Parameter(torch.randn(size) * 3 + 1)
            self.truncated = nn.Parameter(nn.init.trunc_normal_(torch.empty(size), a=-1, b=1))
            self.orthogonal = nn.Parameter(nn.init.orthogonal_(torch.empty(size)))
            self.exponential = nn.Parameter(torch.empty(size).exponential_())
            self.dropped = nn.Parameter(nn.functional.dropout(torch.ones(size), 0.3))

    torch.manual_seed(0)
    plain, seeded = tensors_of(Many()), tensors_of(build(Many, seed=0))
    for name, tensor in plain.items():
        test = stats.ks_2samp(
            tensor.detach().flatten().numpy(), seeded[name].detach().flatten().numpy()
        )
        assert test.pvalue > 0.01, name
        assert not torch.equal(tensor, seeded[name]), name


@pytest.mark.parametrize("seed", ["0", 1.0, True])
def test_wrong_seed(seed):
    """A seed is an integer; anything else says so."""
    with pytest.raises(VariableTypeError, match=r"build\(\) got seed="):
        build(Wide, seed=seed)


class Named(nn.Module):
    """Parameters that are made in some order, one way each."""

    def __init__(self, names, make):
        super().__init__()
        for name in names:
            setattr(self, name, make())


def begun_with_data(fill):
    def make():
        weight = nn.Parameter(torch.tensor([[0.0, 0.0], [0.0, 0.0]]))
        with torch.no_grad():
            fill(weight)
        return weight

    return make


def looked_at():
    value = torch.randn(2)
    while value.max() > 1 or not torch.isfinite(value).all():
        value = torch.randn(2)
    return nn.Parameter(value)


def looked_at_together():
    first, second = torch.rand(3), torch.rand(3)
    assert not torch.equal(first, second)
    return nn.ParameterList([first, second, first + second])


ORDERLESS = {
    "data, normal_": begun_with_data(lambda w: w.normal_()),
    "data, through .data": begun_with_data(lambda w: w.data.uniform_(-1, 1).mul_(2)),
    "data, kaiming": begun_with_data(nn.init.kaiming_uniform_),
    "data, xavier": begun_with_data(nn.init.xavier_normal_),
    "data, orthogonal": begun_with_data(nn.init.orthogonal_),
    "data, truncated": begun_with_data(lambda w: nn.init.trunc_normal_(w, a=-0.5, b=0.5)),
    "looked at": looked_at,
    "looked at together": looked_at_together,
}


@pytest.mark.parametrize("make", ORDERLESS.values(), ids=ORDERLESS)
def test_no_order_changes_anything(make):
    """Neither what begins with data nor what the constructor asks about depends on an order."""
    one, other = build(Named, "abc", make, seed=0), build(Named, "cab", make, seed=0)
    for name, tensor in tensors_of(one).items():
        assert torch.equal(tensor, tensors_of(other)[name]), name
    values = [tensor.flatten().tolist() for tensor in tensors_of(one).values()]
    assert all(values.count(value) == 1 for value in values)


def test_what_was_asked_is_true_of_the_result():
    """Numbers drawn by name are those that give the constructor the answers that it had."""
    for seed in range(20):
        assert all(p.max() <= 1 for p in build(Named, "abc", looked_at, seed=seed).parameters())
