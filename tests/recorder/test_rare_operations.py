"""What few constructors do, and a recording has to run at once or in another way."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.convert_frame import input_codes

from tests.build.same import assert_builds_same
from torchcreator import build
from torchcreator._recorder.dispatch_mode import Recorder
from torchcreator._recorder.function_mode import Disguise
from torchcreator._recorder.tape import Tape
from torchcreator._recorder.tape_writer import Log


class Holder(nn.Module):
    """A module with the tensors that a function gives."""

    def __init__(self, make):
        super().__init__()
        for name, tensor in make().items():
            self.register_buffer(name, tensor)


def sparse_made():
    empty = torch.empty(2, 3, layout=torch.sparse_coo)
    return {"total": empty.to_dense() + torch.rand(2, 3)}


def sparse_from_recorded():
    dense = torch.rand(3, 3)
    return {"dense": dense, "again": dense.to_sparse().to_dense().mul(2)}


def arrays_filled_from_recorded():
    array = torch.from_numpy(np.zeros((2, 3), dtype=np.float32))
    array.copy_(torch.rand(2, 3))
    return {"array": array}


def arrays_written_from_recorded():
    array = torch.from_numpy(np.zeros((2, 3), dtype=np.float32))
    torch.add(torch.rand(2, 3), torch.rand(2, 3), out=array)
    return {"array": array}


def arrays_drawn_from_recorded():
    array = torch.from_numpy(np.zeros(5, dtype=np.float32))
    torch.bernoulli(torch.rand(5), out=array)
    return {"array": array, "after": torch.rand(2)}


def arrays_written_beside_recorded():
    array = torch.from_numpy(np.zeros(5, dtype=np.int64))
    values = torch.empty(5)
    torch.sort(torch.rand(5), out=(values, array))
    return {"values": values, "order": array}


def asserted():
    weights = torch.rand(4)
    torch._assert_async((weights < 2).all())
    return {"weights": weights}


def rank_of_recorded():
    weights = torch.rand(4, 4)
    return {"weights": weights, "roots": torch.linalg.eigvals(weights)}


def newly_shaped():
    like = torch.rand(2, 2)
    return {"sized": like.new(torch.Size([3, 2])).fill_(like.sum()), "data": like.new([1.0, 2.0])}


def copied_with_gradient():
    weights = torch.rand(3, requires_grad=True)
    weights.grad = torch.rand(3)
    copied = copy.deepcopy([weights, weights])
    assert copied[0] is copied[1]
    return {"copied": copied[0].detach(), "gradient": copied[0].grad}


def meta_on_purpose():
    real = torch.rand(3)
    return {"real": real, "shape": real.to("meta"), "alike": torch.zeros_like(real, device="meta")}


def conjugated():
    number = torch.rand(3, dtype=torch.complex64).conj()
    return {"number": number, "copied": copy.deepcopy(number)}


def converted_below_torchs_functions():
    weights = torch.rand(3)
    return {"wide": torch.ops.aten._to_copy(weights, dtype=torch.float64, device="cpu")}


def one_wide():
    column = torch.empty(4, 1)
    nn.init.uniform_(column.t())
    return {"column": column.mul_(2)}


def compiled():
    def noisy(weights):
        torch._dynamo.graph_break()
        noise = torch.empty(3).uniform_()
        nn.init.normal_(noise)
        return weights * 2 + noise

    return {"noisy": torch.compile(noisy, backend="eager")(torch.rand(3)), "after": torch.rand(2)}


WAYS = [
    compiled,
    sparse_made,
    sparse_from_recorded,
    arrays_filled_from_recorded,
    arrays_written_from_recorded,
    arrays_drawn_from_recorded,
    arrays_written_beside_recorded,
    rank_of_recorded,
    asserted,
    newly_shaped,
    copied_with_gradient,
    conjugated,
    converted_below_torchs_functions,
    one_wide,
]


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize("make", WAYS, ids=lambda make: make.__name__)
def test_it_builds_as_it_constructs(make):
    """Values and the generator's state are those of plain construction."""
    assert_builds_same(lambda: Holder(make))


def test_a_compiled_function_runs_as_it_is():
    """The compiler looks at nothing of ours while a constructor is recorded.

    It warned of what it met there, failed in torch 2.10, and where warnings are errors it looked at
    every frame of the process from then on: each parameter made in a scope took a walk over all.
    """
    torch._dynamo.reset()
    build(Holder, compiled)
    ours = (Disguise.__torch_function__, Recorder.__torch_dispatch__, Log.made, Log.fill, Tape.ref)
    assert [method for method in ours if method.__code__ in input_codes] == []


def test_what_is_on_meta_on_purpose_stays_there():
    """The rest has its values."""
    torch.manual_seed(0)
    plain = meta_on_purpose()
    torch.manual_seed(0)
    built = build(lambda: Holder(meta_on_purpose))
    assert built.shape.is_meta
    assert built.alike.is_meta
    assert torch.equal(built.real, plain["real"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: torch.empty(2, -1), "negative dimension", id="made"),
        pytest.param(lambda: torch.arange(0, 5, -1), "upper bound", id="counted"),
        pytest.param(lambda: torch.rand(2) + torch.rand(3), "must match the size", id="computed"),
        pytest.param(lambda: torch.rand(2).copy_(torch.rand(3)), "must match", id="filled"),
        pytest.param(lambda: torch._assert_async((torch.rand(2) > 2).any()), "zero", id="checked"),
    ],
)
def test_a_constructors_own_mistake_is_torchs_error(make, message):
    """It is raised at the line that made it, with torch's words."""
    with pytest.raises(RuntimeError, match=message):
        make()
    with pytest.raises(RuntimeError, match=message):
        build(lambda: Holder(lambda: {"made": make()}))
