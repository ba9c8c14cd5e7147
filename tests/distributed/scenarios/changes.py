"""What models become after their policies were set up: functions of a rank."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import torchcreator as tc
from tests.distributed.models import feed, whole
from torchcreator.distributed import aggregate_gradients, data_parallel


class Body(nn.Module):
    """Variables of three policies, one of each frozen and one not; the input is the gradient."""

    def __init__(self):
        super().__init__()
        for name, aggregation in POLICIES.items():
            self.register_parameter(name, tc.variable([1.0, 1.0], aggregation=aggregation))
            frozen = tc.variable([1.0, 1.0], aggregation=aggregation, trainable=False)
            self.register_parameter(f"frozen_{name}", frozen)

    def forward(self, x):
        return sum((p * x).sum() for p in self.parameters())


POLICIES = {"summed": "sum", "mean": "mean", "first": "only_first_replica"}
WANTED = {"summed": 3.0, "mean": 1.5, "first": 1.0}


def plain(model):
    aggregate_gradients(model)
    return model


def in_data_parallel(model):
    return data_parallel(model, find_unused_parameters=True)


def in_a_ddp(model):
    ddp = DistributedDataParallel(model, find_unused_parameters=True)
    aggregate_gradients(ddp)
    return ddp


def in_fsdp(model):
    fully_shard(model)
    aggregate_gradients(model)
    return model


HOSTS = {host.__name__: host for host in (plain, in_data_parallel, in_a_ddp, in_fsdp)}


def results(model, held, rank):
    """Return the gradients of two backwards with a step between, whose second is a new one."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        model.zero_grad()
        held(feed(rank).to(next(model.parameters()).dtype)).backward()
        got = {n: whole(p.grad) for n, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
    return {name: grad.tolist() for name, grad in got.items()}


def trained_once(host, rank):
    model = Body()
    held = HOSTS[host](model)
    held(feed(rank)).backward()
    model.zero_grad()
    return model, held


def thawed(host):
    def play(rank):
        model, held = trained_once(host, rank)
        model.requires_grad_(True)
        return results(model, held, rank)

    return play


def loaded(host):
    def play(rank):
        model, held = trained_once(host, rank)
        state = {name: torch.ones(2) for name in model.state_dict()}
        model.load_state_dict(state, assign=True)
        return results(model, held, rank)

    return play


def assigned(host):
    def play(rank):
        model, held = trained_once(host, rank)
        for name in POLICIES:
            setattr(model, name, nn.Parameter(torch.ones(2)))
        return results(model, held, rank)

    return play


def swapped(host):
    def play(rank):
        model, held = trained_once(host, rank)
        torch.__future__.set_swap_module_params_on_conversion(True)
        model.double()
        return results(model, held, rank)

    return play


def added(host):
    def play(rank):
        model = nn.Sequential(Body())
        held = HOSTS[host](model)
        held(feed(rank)).backward()
        model.zero_grad()

        class Late(Body):
            def forward(self, x):  # after the others' sum
                return x + super().forward(feed(rank))

        model.append(Late())
        return results(model, held, rank)

    return play


CHANGES = {change.__name__: change for change in (thawed, loaded, assigned, swapped, added)}
POSSIBLE = {
    "thawed": ["plain", "in_data_parallel", "in_a_ddp", "in_fsdp"],
    "loaded": ["plain"],
    "assigned": ["plain"],
    "swapped": ["plain"],
    "added": ["plain", "in_data_parallel", "in_a_ddp"],
}
SCENARIOS = {
    f"{change} {host}": CHANGES[change](host)
    for change, hosts in POSSIBLE.items()
    for host in hosts
}
