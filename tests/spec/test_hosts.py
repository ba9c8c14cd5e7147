"""Specs on several ranks: DDP, FSDP2, distribute_module."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_module, distribute_tensor

import torchcreator as tc
from tests.spec.models import declared, model, step
from tests.spec.ways import loaded, saved
from tests.support.ranks import run_ranks
from torchcreator._errors import DistributedError


def ddp(module):
    """Wrap a model for data parallelism."""
    return nn.parallel.DistributedDataParallel(module)


def fsdp(module):
    """Shard a model, its body as a group of its own."""
    module.steps = nn.Parameter(torch.zeros(4), requires_grad=False)  # FSDP2 shards no scalar
    fully_shard(module.body)
    return fully_shard(module)


def distributed(module):
    """Shard every parameter of one layer on its first dimension."""
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))

    def shard(name, owner, mesh):
        for local, p in list(owner.named_parameters(recurse=False)):
            placed = distribute_tensor(p.detach(), mesh, [Shard(0)] if p.ndim else None)
            owner.register_parameter(local, nn.Parameter(placed, p.requires_grad))

    distribute_module(module.body, mesh, shard)
    return module


HOSTS = {"ddp": ddp, "fsdp": fsdp, "distribute_module": distributed}


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_hosts_keep_the_specs(host, world_size, tmp_path):
    """DDP, FSDP2 and distribute_module leave every spec where it is found, on every rank."""

    def rank_main(rank):
        module = model()
        expected = declared(module)
        hosted = host(module)
        found = {name.removeprefix("module."): spec for name, spec in declared(hosted).items()}
        assert found == expected
        assert [tc.spec_of(p) for p in hosted.parameters()] == list(expected.values())
        for p in step(hosted):
            local = p.to_local() if isinstance(p, DTensor) else p
            assert (local == 0.0).all()
        return len(found)

    assert run_ranks(rank_main, world_size, tmp_path) == [6] * world_size


@pytest.mark.parametrize("world_size", [1, 2])
def test_what_an_fsdp_optimizer_holds_is_found_after_an_evaluation(world_size, tmp_path):
    """An evaluation leaves FSDP2's root gathered; the optimizer's shards still have specs."""

    def rank_main(rank):
        torch.manual_seed(0)
        hosted = fsdp(model())
        names = [name for name, p in hosted.named_parameters() if p.requires_grad]
        held = [p for p in hosted.parameters() if p.requires_grad]
        expected = {name: tc.spec_of(p) for name, p in zip(names, held, strict=True)}
        optimizer = torch.optim.SGD(held, lr=100.0)
        for _ in range(2):
            hosted(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()
            with torch.no_grad():
                hosted(torch.ones(2, 4))
            assert hosted.gain is not held[0]  # the root stays gathered: its shard is in no module
            found = {name: tc.spec_of(p) for name, p in zip(names, held, strict=True)}
            assert found == expected
            for p in held:
                p.grad = torch.full_like(p, 100.0)
            optimizer.step()
            assert all((p.to_local() == 0.0).all() for p in held)
            optimizer.zero_grad()
        return True

    assert run_ranks(rank_main, world_size, tmp_path) == [True] * world_size


@pytest.mark.parametrize("world_size", [1, 2])
def test_specs_never_asked_for_before_an_evaluation_are_found_after_it(world_size, tmp_path):
    """Also where nobody looked while the parameters were sharded."""

    def rank_main(rank):
        hosted = fsdp(model())
        held = [p for p in hosted.parameters() if p.requires_grad]
        with torch.no_grad():
            hosted(torch.ones(2, 4))
        assert all(tc.spec_of(p) is not None for p in held)
        optimizer = torch.optim.SGD(held, lr=100.0)
        for p in held:
            p.grad = torch.full_like(p, 100.0)
        optimizer.step()
        assert all((p.to_local() == 0.0).all() for p in held)
        return True

    assert run_ranks(rank_main, world_size, tmp_path) == [True] * world_size


def test_an_fsdp_optimizers_state_goes_round(tmp_path):
    """A deep copy of a pickle of an FSDP2 optimizer's state trains on under the constraints."""

    def rank_main(rank):
        hosted = fsdp(model())
        held = [p for p in hosted.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(held, lr=0.1)
        hosted(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()
        state = copy.deepcopy(pickle.loads(pickle.dumps(optimizer.state_dict())))
        resumed = torch.optim.Adam(held, lr=100.0)
        resumed.load_state_dict(state)
        resumed.param_groups[0]["lr"] = 100.0
        for p in held:
            p.grad = torch.full_like(p, 100.0)
        resumed.step()
        assert all((p.to_local() == 0.0).all() for p in held)
        return [tc.spec_of(p).name for p in held]

    names = run_ranks(rank_main, 2, tmp_path)
    assert names[0] == names[1] == ["gain", "weight", "bias", "weight", "bias"]


def test_a_process_group_is_shared_by_copies_and_lost_in_pickles(tmp_path):
    """A copy has the same group; after a pickle the group's next use is an error."""

    def rank_main(rank):
        group = torch.distributed.new_group([0, 1])
        p = tc.variable([1.0], name="gain", process_group=group, aggregation="mean")
        module = nn.Module()
        module.p = p
        for same in (copy.deepcopy(p), copy.deepcopy(module).p):
            assert tc.spec_of(same).group() is group
        for other in (pickle.loads(pickle.dumps(p)), saved(module).p, loaded(p)):
            spec = tc.spec_of(other)
            assert spec.aggregation is tc.VariableAggregation.MEAN
            with pytest.raises(DistributedError, match=r"'gain\w*' is gone(.*\n)*.*process_group="):
                spec.group()
            with pytest.raises(DistributedError, match=r"'gain\w*' is gone"):
                tc.assign(other, [2.0])
            again = pickle.loads(pickle.dumps(other))  # what is lost stays lost
            with pytest.raises(DistributedError, match=r"'gain\w*' is gone"):
                tc.spec_of(again).group()
        return True

    assert run_ranks(rank_main, 2, tmp_path) == [True, True]


def test_sharding_in_a_scope_makes_nothing(tmp_path):
    """fully_shard and distribute_module in a scope register shards of what exists already."""

    def rank_main(rank):
        seen = []

        def valued(next_creator, **kwargs):
            seen.append(kwargs["name"])
            kwargs["initial_value"] = torch.full(kwargs["shape"], 2.0)
            return next_creator(**kwargs)

        for host in (fsdp, distributed):
            module = model()
            with tc.creator_scope(valued):
                hosted = host(module)
            assert seen in ([], ["steps"])  # fsdp() above replaces one itself
            assert len(declared(hosted)) == 6
            assert any(isinstance(p, DTensor) for p in hosted.parameters())
            seen.clear()
        return True

    assert run_ranks(rank_main, 2, tmp_path) == [True, True]
