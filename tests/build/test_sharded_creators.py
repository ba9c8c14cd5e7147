"""Creators decide about sharded parameters as about whole ones, and make this rank's part."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import torchcreator as tc
from tests.support.ranks import claims_on_ranks
from torchcreator import creators
from torchcreator._build.build import build, defer
from torchcreator._build.materialize import materialize
from torchcreator._errors import CreatorResultError, VariableValueError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(300, 130)
        self.up = nn.Linear(130, 260)
        self.down = nn.Linear(260, 130)
        self.head = nn.Linear(130, 300, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.down(self.up(self.embed(x)).relu()))


def sharded(model):
    return fully_shard(model)


def by_columns(model):
    def place(parameter):
        return Shard(1) if parameter.dim() > 1 else Shard(0)

    return fully_shard(model, shard_placement_fn=place)


def over_tensor_parallelism(model):
    mesh = init_device_mesh("cpu", (1, dist.get_world_size()), mesh_dim_names=("data", "tensor"))
    plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    parallelize_module(model, mesh["tensor"], plan)
    return fully_shard(model, mesh=mesh["data"])


def made(*scope, way=sharded):
    """Return a sharded model, materialised in a scope, and the same one built whole in it."""
    model = way(defer(Net, seed=1))
    with tc.creator_scope(*scope):
        materialize(model)
        whole = build(Net, seed=1)
    for name, parameter in whole.named_parameters():
        own = model.get_parameter(name)
        assert isinstance(own, DTensor), name
        assert torch.equal(own.full_tensor(), parameter), name
        assert own.requires_grad == parameter.requires_grad, name
        assert tc.spec_of(own) == tc.spec_of(parameter), name
    assert model.head.weight is model.embed.weight
    return model, whole


def what_creators_are_told():
    """The full name, logical shape, dtype, device, owner and all names of a tie."""
    seen = []

    def look(next_creator, **kwargs):
        seen.append((kwargs["name"], *kwargs["shape"]))
        assert (kwargs["dtype"], kwargs["device"]) == (torch.float32, torch.device("cpu"))
        owner = kwargs["name"].partition(".")[0]
        assert kwargs["module"] is getattr(model, owner)
        assert kwargs["trainable"] is None
        if kwargs["name"] == "embed.weight":
            assert kwargs["tags"] == {"names": ("embed.weight", "head.weight")}
        return next_creator(**kwargs)

    model = sharded(defer(Net, seed=1))
    with tc.creator_scope(look):
        materialize(model)
    assert seen == [
        ("embed.weight", 300, 130),
        ("up.weight", 260, 130),
        ("up.bias", 260),
        ("down.weight", 130, 260),
        ("down.bias", 130),
    ]


def values_are_whole_and_sliced():
    """Called, the value is the whole one; sliced, it is that part of it."""

    def look(next_creator, **kwargs):
        value, name = kwargs["initial_value"], kwargs["name"]
        whole = wholes[name]
        assert value.shape == whole.shape
        assert value.dtype == whole.dtype
        assert torch.equal(value(), whole)
        assert torch.equal(value[3:9], whole[3:9])
        assert torch.equal(value[4], whole[4])
        assert torch.equal(value[...], whole)
        if whole.dim() > 1:
            assert torch.equal(value[3:9, 5:], whole[3:9, 5:])
        return next_creator(**kwargs)

    wholes = dict(build(Net, seed=1).named_parameters())
    made(look)


class Rows:
    """A value of which parts can be had, and nothing else."""

    def __init__(self, whole, asked):
        self.whole, self.asked = whole, asked

    def get_shape(self):
        return list(self.whole.shape)

    def __getitem__(self, index):
        part = self.whole[index]
        self.asked.append(part.numel())
        return part.clone()


def other_values():
    """Tensors, arrays, initialisers, functions, lists, and what can only be sliced."""
    for way in (sharded, by_columns, over_tensor_parallelism):
        for kind in ("tensor", "array", "in place", "function", "list", "sliced"):
            asked = []
            whole = torch.arange(260.0 * 130).view(260, 130)
            values = {
                "tensor": whole.requires_grad_(),
                "array": whole.detach().numpy(),
                "in place": nn.init.ones_,
                "function": lambda whole=whole: (whole / whole.norm()).detach(),
                "list": whole.tolist(),
                "sliced": Rows(whole.detach(), asked),
            }
            value = values[kind]

            def give(next_creator, value=value, **kwargs):
                if kwargs["name"] == "up.weight":
                    kwargs["initial_value"] = value
                return next_creator(**kwargs)

            model, _ = made(give, way=way)
            local = model.up.weight.to_local()
            assert local.untyped_storage().nbytes() == local.nbytes
            assert local.data_ptr() != whole.data_ptr()
            if kind == "sliced":
                assert asked[0] == whole.numel() // 2


def a_wrapped_value():
    """What is computed from the whole value is computed from the whole, and cut."""

    def normalised(next_creator, **kwargs):
        value = kwargs["initial_value"]
        kwargs["initial_value"] = lambda: value() / value().norm()
        return next_creator(**kwargs)

    made(normalised)
    made(normalised, way=over_tensor_parallelism)


def ready_made():
    """Each ready-made creator that does not exchange the parameter."""
    ledger = creators.Ledger()
    model, _ = made(
        creators.record(ledger),
        creators.freeze(name="embed.*"),
        creators.constrain("max_norm", module=nn.Linear, name="*.weight"),
        creators.aggregate("sum", name="up.*"),
        creators.initialize(nn.init.zeros_, name="*.bias"),
        creators.optimizer(lr=0.5, name="down.*"),
        creators.progress(),
    )
    assert len(ledger) == 10
    assert [entry.shape for entry in ledger if entry.name == "up.weight"] == [(260, 130)] * 2
    assert tc.spec_of(model.up.weight).aggregation == "sum"
    assert not model.up.bias.full_tensor().any()
    groups = tc.param_groups(model)
    assert {len(group["params"]) for group in groups if group.get("lr") == 0.5} == {2}


def a_checkpoint():
    """Values come from a checkpoint, ties and all, and what is missing is the model's own."""
    torch.manual_seed(3)
    other = Net()
    state = {name: value.clone() for name, value in other.state_dict().items()}
    made(creators.from_checkpoint(state))
    del state["up.weight"]
    _, whole = made(creators.from_checkpoint(state, strict=False))
    assert torch.equal(whole.up.weight, build(Net, seed=1).up.weight)


def constraints_hold_after_a_step():
    """A constraint that a creator declares on a sharded parameter is projected after steps."""
    with tc.creator_scope(creators.constrain("non_neg", name="up.weight")):
        model = materialize(sharded(defer(Net, seed=1)))
    model(torch.arange(8)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert (model.up.weight.full_tensor() >= 0).all()


def on_meta():
    """A parameter that a creator leaves on meta stays there, and costs nothing."""
    with tc.creator_scope(creators.meta(name="up.*")):
        model = materialize(sharded(defer(Net, seed=1)))
    assert model.up.weight.to_local().is_meta
    assert not model.down.weight.to_local().is_meta


def errors():
    """What cannot be changed any more is named, and the model waits as it did."""

    def own(next_creator, **kwargs):
        return nn.Parameter(torch.zeros(kwargs["shape"]))

    def shorter(next_creator, **kwargs):
        kwargs["initial_value"] = np.zeros((3, 130), dtype=np.float32)
        return next_creator(**kwargs)

    def given(value):
        def creator(next_creator, **kwargs):
            return next_creator(**{**kwargs, "initial_value": value})

        return creators.where(creator, name="up.weight")

    class Wrong(Rows):
        def __getitem__(self, index):
            return self.whole

    whole = torch.zeros(260, 130)
    for creator, kind, message in [
        (creators.where(own, name="up.weight"), CreatorResultError, "a parameter of its own for"),
        (creators.cast(torch.bfloat16, name="up.*"), CreatorResultError, "another dtype than"),
        (
            creators.where(shorter, name="up.weight"),
            VariableValueError,
            "another shape than",
        ),
        (given(whole.double()), VariableValueError, "another dtype than it declares"),
        (given(Wrong(whole, [])), VariableValueError, "another part than it was asked"),
        (given(lambda: whole[:2]), VariableValueError, "another shape than it declares"),
    ]:
        model = sharded(defer(Net, seed=1))
        with tc.creator_scope(creator), pytest.raises(kind, match=message) as told:
            materialize(model)
        assert "up.weight'" in str(told.value)
        assert len(str(told.value).splitlines()) >= 3
        assert all(p.to_local().is_meta for p in model.parameters())
        assert all(p.requires_grad for p in model.parameters())
        materialize(model)
        expected = build(Net, seed=1)
        assert torch.equal(model.up.weight.full_tensor(), expected.up.weight)


CLAIMS = [
    *(what_creators_are_told, values_are_whole_and_sliced, other_values, a_wrapped_value),
    *(ready_made, a_checkpoint, constraints_hold_after_a_step, on_meta, errors),
]


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Each claim, tried on two ranks."""
    return claims_on_ranks(CLAIMS, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_claim(claim, played):
    """It holds on both ranks."""
    for wrong in played:
        assert claim.__name__ not in wrong, wrong[claim.__name__]
