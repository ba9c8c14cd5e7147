"""What goes wrong with sharded models is told by the parameter's name, or goes well."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard

import torchcreator as tc
from tests.support.ranks import run_ranks, scenes
from torchcreator._build.build import build, defer
from torchcreator._build.materialize import materialize
from torchcreator._errors import BuildError, DistributedError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def net():
    return nn.Sequential(nn.Linear(6, 7), nn.Linear(7, 5))


def padded(rank):
    """Rank 1 has a row too many; it is told, and the model waits."""
    model = defer(nn.Linear, 6, 7, seed=0)
    mesh = init_device_mesh("cpu", (2,))
    local = torch.empty(4, 6, device="meta")
    placed = DTensor.from_local(
        local, mesh, [Shard(0)], run_check=False, shape=torch.Size((7, 6)), stride=(6, 1)
    )
    model.weight = nn.Parameter(placed)
    try:
        materialize(model)
    except BuildError as error:
        assert model.weight.to_local().is_meta
        assert model.bias.is_meta
        return str(error)
    return ""


def other_policies(rank):
    """Ranks whose creators differ are told when it is asked, before anything is written."""
    model = fully_shard(defer(net, seed=0))
    with tc.creator_scope(tc.creators.aggregate("sum" if rank else "mean")):
        materialize(model)
    before = [parameter.to_local().clone() for parameter in model.parameters()]
    with pytest.raises(DistributedError, match="The ranks declare different variables"):
        tc.distributed.verify(model)
    pairs = zip(model.parameters(), before, strict=True)
    return all(torch.equal(parameter.to_local(), value) for parameter, value in pairs)


def without_its_group(rank):
    """Nothing is communicated, so the values are right when the group is gone already."""
    model = fully_shard(defer(net, seed=0))
    dist.destroy_process_group()
    materialize(model)
    rows = slice(0, 4) if rank == 0 else slice(4, 7)
    return torch.equal(model[0].weight.to_local(), build(net, seed=0)[0].weight[rows])


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """What happens on two ranks."""
    ranks = [padded, other_policies, without_its_group]
    return scenes(ranks, 2, tmp_path_factory.mktemp("ranks"))


def test_a_padded_part_is_refused(played):
    """By name, with the shape that its placements say, on the rank that has it."""
    first, second = played["padded"]
    assert first == ""
    what, expected, actual, why, instead = second.splitlines()
    assert what == "This rank's part of 'weight' has another shape than its placements say."
    assert (expected, actual) == ("  expected: (3, 6)", "  actual:   (4, 6)")
    assert "padded it, or cut it otherwise" in why
    assert instead.startswith("Shard it by fully_shard")


def test_creators_that_differ_between_ranks(played):
    """`verify` says so, and nothing has changed."""
    assert played["other_policies"] == [True, True]


def test_a_mesh_whose_group_is_gone(played):
    """Materialising sends nothing, and needs none."""
    assert played["without_its_group"] == [True, True]


def test_an_operation_that_fails_for_a_part(tmp_path):
    """It is named with its parameter and line, and all shards are on meta again."""

    def rank(_):
        def fails():
            model = nn.Linear(6, 7)
            nn.init.uniform_(model.weight, 2, 1)
            return nn.Sequential(nn.Linear(6, 6), model)

        model = fully_shard(defer(fails, seed=0))
        with pytest.raises(BuildError, match=r"Replaying uniform_ for '1\.weight' failed"):
            materialize(model)
        return [parameter.to_local().is_meta for parameter in model.parameters()]

    assert run_ranks(rank, 2, tmp_path) == [[True] * 4] * 2
