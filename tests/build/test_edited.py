"""What may be done to a deferred model: values follow the tensors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

import torchcreator as tc
from tests.build.edited import COPIES, Net, assert_same
from tests.support.ranks import run_ranks
from torchcreator._build.build import build, defer
from torchcreator._build.materialize import materialize
from torchcreator._errors import BuildError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture
def model():
    return defer(Net, seed=0)


@pytest.fixture(scope="module")
def whole():
    return build(Net, seed=0)


@pytest.mark.parametrize("taken", COPIES)
def test_deleted_and_renumbered(model, whole, taken):
    """Where a layer is taken away, the others keep their values under their new names."""
    model = taken(model)
    del model.layers[0]
    materialize(model)
    assert_same(model.layers[0], whole.layers[1])
    assert_same(model.layers[1], whole.layers[2])


@pytest.mark.parametrize("taken", COPIES)
def test_moved_and_renamed(model, whole, taken):
    """Modules and parameters take their values along to wherever they are put."""
    model = taken(model)
    model.last = model.layers[2]
    model.layers = model.layers[:1]
    model.layers[0].linear.kernel = model.last.linear.weight
    del model.last.linear.weight
    model.layers[0].linear.bias, model.last.linear.bias = (
        model.last.linear.bias,
        model.layers[0].linear.bias,
    )
    materialize(model)
    assert torch.equal(model.layers[0].linear.kernel, whole.layers[2].linear.weight)
    assert torch.equal(model.layers[0].linear.bias, whole.layers[2].linear.bias)
    assert torch.equal(model.last.linear.bias, whole.layers[0].linear.bias)
    assert torch.equal(model.last.table, whole.layers[2].table)


@pytest.mark.parametrize("taken", COPIES)
def test_shared(model, whole, taken):
    """A parameter or module that was put in two places is one there."""
    model = taken(model)
    model.layers[0].linear.weight = model.layers[1].linear.weight
    model.layers.append(model.layers[2])
    materialize(model)
    assert model.layers[0].linear.weight is model.layers[1].linear.weight
    assert torch.equal(model.layers[0].linear.weight, whole.layers[1].linear.weight)
    assert model.layers[3] is model.layers[2]
    assert_same(model.layers[3], whole.layers[2])
    assert model.head.weight is model.embed.weight


@pytest.mark.parametrize("taken", COPIES)
def test_copied_inside(model, whole, taken):
    """A layer that was copied inside the model has the same values in memory of its own."""
    model = taken(model)
    model.layers.append(copy.deepcopy(model.layers[1]))
    materialize(model)
    assert_same(model.layers[3], model.layers[1])
    assert_same(model.layers[3], whole.layers[1])
    with torch.no_grad():
        for value in (model.layers[3].linear.weight, model.layers[3].table, model.layers[3].rows):
            value.zero_()
    assert_same(model.layers[1], whole.layers[1])
    assert not model.layers[3].row.any()  # it goes on looking at the rows of the copy


@pytest.mark.parametrize("taken", COPIES)
def test_stages(model, whole, taken):
    """A part is materialised by itself, put together anew or alone; the rest can follow."""
    model = taken(model)
    stage = materialize(nn.Sequential(model.layers[2], nn.ReLU()))
    assert_same(stage[0], whole.layers[2])
    assert model.layers[1].linear.weight.is_meta
    assert model.layers[1].kept[0].is_meta
    alone = materialize(copy.deepcopy(model.layers[1]))
    assert_same(alone, whole.layers[1])
    materialize(model)
    assert stage[0] is model.layers[2]
    for layer, expected in zip(model.layers, whole.layers, strict=True):
        assert_same(layer, expected)


def test_stages_leave_the_generator_once():
    """However many parts a model is materialised in, the generator moves as for one constructor."""
    torch.manual_seed(0)
    plain, after = Net(), torch.get_rng_state()
    torch.manual_seed(0)
    model = defer(Net)
    materialize(model.layers)
    materialize(model)
    assert torch.equal(torch.get_rng_state(), after)
    assert_same(model.layers[2], plain.layers[2])
    assert torch.equal(model.head.bias, plain.head.bias)


def test_part_that_shares_memory():
    """What looks at a part's memory from outside the part goes on looking at it."""

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.second = nn.Linear(4, 4)
            self.second.weight = nn.Parameter(self.first.weight.data[:2])

    model = defer(Pair, seed=0)
    materialize(model.first)
    materialize(model)
    with torch.no_grad():
        model.first.weight.zero_()
    assert not model.second.weight.any()


def test_what_a_part_refers_to_elsewhere_waits():
    """A weight that a hook of a part refers to is not the part's: it waits for its own module."""

    def factory():
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        weight, plain = model[1].weight, torch.ones(3)
        model[0].register_forward_hook(lambda module, args, out: out @ weight + plain.sum())
        return model

    model, whole = defer(factory, seed=0), build(factory, seed=0)
    alone = materialize(copy.deepcopy(model[0]))
    materialize(model[0])
    assert model[1].weight.is_meta
    materialize(model)
    assert torch.equal(model(torch.ones(4)), whole(torch.ones(4)))
    assert torch.equal(alone(torch.ones(4)), whole[0](torch.ones(4)))


CONVERSIONS = {
    "half": lambda model: model.half(),
    "to a dtype": lambda model: model.to(torch.bfloat16),
    "double": lambda model: model.double(),
    "a part": lambda model: model.layers[1].bfloat16(),
}


@pytest.mark.parametrize("taken", COPIES)
@pytest.mark.parametrize("name", CONVERSIONS)
def test_converted(name, taken, model, whole):
    """Dtype conversions are applied to the values, and what was converted may be moved."""
    model, whole = taken(model), copy.deepcopy(whole)
    CONVERSIONS[name](model)
    CONVERSIONS[name](whole)
    model.layers[0].linear.kernel = model.layers[0].linear.weight
    del model.layers[0].linear.weight
    materialize(model)
    for layer, expected in zip(model.layers, whole.layers, strict=True):
        weight = layer.linear.kernel if layer is model.layers[0] else layer.linear.weight
        assert torch.equal(weight, expected.linear.weight.to(weight.dtype))
        assert weight.dtype == expected.linear.weight.dtype
        assert layer.table.dtype == expected.table.dtype
    assert model.head.weight is model.embed.weight


def test_converted_is_not_made_where_nobody_asks(model):
    """A conversion costs nothing where a creator answers by itself."""

    def zeros(next_creator, **kwargs):
        kwargs["initial_value"] = nn.init.zeros_
        return next_creator(**kwargs)

    with tc.creator_scope(zeros):
        materialize(model.half())
    assert not any(parameter.any() for parameter in model.parameters())
    assert all(parameter.dtype == torch.half for parameter in model.parameters())


def test_memory_format():
    """A memory format is a conversion too."""
    model = materialize(defer(nn.Conv2d, 3, 4, 3, seed=0).to(memory_format=torch.channels_last))
    expected = build(nn.Conv2d, 3, 4, 3, seed=0)
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(model.weight, expected.weight)


CUTS = {
    "clone": lambda weight: nn.Parameter(weight.detach().clone()),
    "copy": copy.deepcopy,
}


@pytest.mark.parametrize("taken", COPIES)
@pytest.mark.parametrize("name", CUTS)
def test_tie_cut(name, taken, model, whole):
    """Where a tie was cut there are two parameters, of one value, with memory of their own."""
    model = taken(model)
    model.head.weight = CUTS[name](model.head.weight)
    materialize(model)
    assert model.head.weight is not model.embed.weight
    assert torch.equal(model.head.weight, whole.embed.weight)
    with torch.no_grad():
        model.head.weight.zero_()
    assert torch.equal(model.embed.weight, whole.embed.weight)


def test_what_was_assigned_is_kept(model, whole):
    """A value that the caller gave stays: assigned, or loaded with ``assign=True``."""
    value = nn.Parameter(torch.ones(4, 4))
    model.layers[0].linear.weight = value
    model.layers[1].table = torch.ones(4)
    model.load_state_dict({"head.bias": torch.ones(5)}, strict=False, assign=True)
    materialize(model)
    assert model.layers[0].linear.weight is value
    assert bool((value == 1).all())
    assert bool((model.head.bias == 1).all())
    assert bool((model.layers[1].table == 1).all())
    assert_same(model.layers[2], whole.layers[2])


def test_nothing_is_left_behind(model):
    """Afterwards no module or tensor carries anything of the record."""
    model.layers.append(copy.deepcopy(model.layers[1].half()))
    materialize(model)
    for module in model.modules():
        assert not [key for key in vars(module) if "torchcreator" in key]
    for tensor in [*model.parameters(), *model.buffers(), model.layers[3].kept[0]]:
        assert not [key for key in vars(tensor) if "torchcreator" in key]


def full(parameter):
    return parameter.full_tensor()


def sharded_edits(_):
    """Edit, shard, materialise; each claim by itself, on models of its own."""
    whole = build(Net, seed=0)

    model = defer(Net, seed=0)  # a stage: taken away, renumbered, a copy put in
    del model.layers[0]
    model.layers.append(copy.deepcopy(model.layers[0]))
    model.half()
    fully_shard(model)
    materialize(model)
    assert torch.equal(full(model.layers[0].linear.weight), whole.layers[1].linear.weight.half())
    assert torch.equal(full(model.layers[2].linear.weight), whole.layers[1].linear.weight.half())
    assert torch.equal(model.layers[2].table, whole.layers[1].table.half())
    assert torch.equal(model.layers[1].kept[0], whole.layers[2].kept[0])

    model = defer(Net, seed=0)  # tied, renamed and moved before it is sharded
    model.layers[0].linear.weight = model.layers[1].linear.weight
    model.layers[2].kernel = model.layers[2].linear.weight
    del model.layers[2].linear.weight
    fully_shard(model)
    materialize(model)
    assert model.layers[0].linear.weight is model.layers[1].linear.weight
    assert torch.equal(full(model.layers[0].linear.weight), whole.layers[1].linear.weight)
    assert torch.equal(full(model.layers[2].kernel), whole.layers[2].linear.weight)

    model = defer(Net, seed=0)  # moved after it is sharded
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.layers:
        parallelize_module(layer, mesh, {"linear": ColwiseParallel()})
    model.layers = model.layers[1:]
    materialize(model)
    assert torch.equal(full(model.layers[0].linear.weight), whole.layers[1].linear.weight)

    for change, message in (
        (lambda model: nn.init.zeros_(model.head.bias), r"'head\.bias' was written to since"),
        (lambda model: model.to_empty(device="cpu"), r"has memory already(.|\n)*to_empty\(\) out"),
    ):
        model = defer(Net, seed=0)
        fully_shard(model)
        change(model)
        with pytest.raises(BuildError, match=message):
            materialize(model)


def test_sharded(tmp_path):
    """What is edited before or after it is sharded keeps its values, or it is told."""
    run_ranks(sharded_edits, 2, tmp_path)
