"""What befalls models under ``data_parallel``: functions of a rank, all of one world of two."""

from __future__ import annotations

import gc
import weakref

import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.nn.parallel.distributed import _MixedPrecision
from torch.utils.checkpoint import checkpoint

from tests.distributed.models import Policies, feed, gradients
from tests.distributed.schedules import backward
from torchcreator import variable
from torchcreator.distributed import aggregate_gradients, data_parallel


class Unused(Policies):
    """Uses nothing of its own on the ranks that are told to skip."""

    def forward(self, x: torch.Tensor, skip: bool = False) -> torch.Tensor:
        return self.nested(x) if skip else super().forward(x)


def unused_on_rank_1(rank):
    ddp = data_parallel(Unused(rank), find_unused_parameters=True)
    for _ in range(2):
        ddp(feed(rank), skip=rank == 1).backward()
    return gradients(ddp)


def nan_on_rank_1(rank):
    ddp = data_parallel(Policies(rank, nested=False))
    ddp(torch.tensor([float("nan") if rank else 1.0])).backward()
    return {name: str(value) for name, value in gradients(ddp).items()}


def bit_equal_to_ddp(rank):
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    ours, theirs = data_parallel(models[0]), nn.parallel.DistributedDataParallel(models[1])
    inputs = torch.randn(4, 5) + rank
    for model in (ours, theirs):
        model(inputs).square().sum().backward()
    return all(
        torch.equal(p.grad, q.grad)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)
    )


def values_after_wrapping(rank):
    ddp = data_parallel(Policies(rank))
    return {name.removeprefix("module."): p.item() for name, p in ddp.named_parameters()}


class Tied(nn.Module):
    """One per-rank parameter under two names, one summed one under two names."""

    def __init__(self, rank):
        super().__init__()
        self.left, self.right = Policies(rank, nested=False), Policies(rank, nested=False)
        self.right.local, self.right.summed = self.left.local, self.left.summed
        self.alias = self.left.local

    def forward(self, x):
        return self.left(x) + self.right(x)


def tied(rank):
    ddp = data_parallel(Tied(rank))
    ddp(feed(rank)).backward()
    left = ddp.module.left
    return left.local.item(), left.local.grad.item(), left.summed.grad.item()


def earlier_ignore_list(rank):
    model = Policies(rank)
    nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(
        model, ["nested.mean"]
    )
    ddp = data_parallel(model)
    backward(ddp, rank)
    return gradients(ddp)["nested.mean"], gradients(ddp)["nested.local"], model.nested.mean.item()


class Embedding(nn.Module):
    """Three sparse embeddings of one element, one for each policy."""

    def __init__(self):
        super().__init__()
        for name, policy in {
            "summed": "sum",
            "mean": "mean",
            "first": "only_first_replica",
        }.items():
            embedding = nn.Embedding(2, 1, sparse=True)
            embedding.weight = variable([[1.0], [1.0]], aggregation=policy)
            self.add_module(name, embedding)

    def forward(self, x):
        index = torch.tensor([0])
        return sum((e(index) * x).sum() for e in (self.summed, self.mean, self.first))


def sparse(rank):
    ddp = data_parallel(Embedding())
    results = []
    for _ in range(2):
        ddp.zero_grad()
        ddp(feed(rank)).backward()
        results.append([p.grad.to_dense().flatten().tolist() for p in ddp.parameters()])
    ddp(feed(rank)).backward()
    return [*results, [p.grad.to_dense().flatten().tolist() for p in ddp.parameters()]]


def uneven_inputs(rank):
    ddp = data_parallel(Policies(rank, nested=False))
    seen = []
    with ddp.join():
        for _ in range(1 + rank):  # rank 0 runs out first: rank 1's second batch is alone
            ddp.zero_grad()
            backward(ddp, rank)
            seen.append(gradients(ddp))
    return seen


def handle_dropped(rank):
    ddp = data_parallel(Policies(rank))
    gc.collect()
    backward(ddp, rank)
    freed = weakref.ref(ddp)
    state = gradients(ddp)
    del ddp
    gc.collect()
    return state, freed() is None


def gradient_penalty(rank):
    ddp = data_parallel(Policies(rank, nested=False))
    loss = ddp(feed(rank))
    (grad,) = torch.autograd.grad(loss, ddp.module.summed, retain_graph=True)
    loss.backward()
    return grad.item(), gradients(ddp)["summed"]


def checkpointed(rank):
    model = Policies(rank, nested=False)

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            x = x.requires_grad_()
            reentrant = {"use_reentrant": True}
            return checkpoint(model, x, **reentrant) + checkpoint(model, x, **reentrant)

    ddp = data_parallel(Checkpointed(), static_graph=True)
    for _ in range(2):
        ddp.zero_grad()
        backward(ddp, rank)
    return {name.removeprefix("inner."): value for name, value in gradients(ddp).items()}


def compiled(rank):
    results = []
    for backend in ("eager", "aot_eager"):
        ddp = data_parallel(Policies(rank, nested=False))
        step = torch.compile(ddp, backend=backend)
        for _ in range(2):
            step(feed(rank)).backward()
        results.append(gradients(ddp))
        torch.compiler.reset()
    return results


def mixed_dtypes(rank):
    model = Policies(rank, nested=False)
    model.half_summed = variable(
        torch.zeros(1, dtype=torch.bfloat16), aggregation="sum", name="half"
    )
    model.double_first = variable(
        torch.zeros(1, dtype=torch.float64), aggregation="only_first_replica", name="double"
    )
    ddp = data_parallel(model)
    backward(ddp, rank)
    return gradients(ddp)


def autocast(rank):
    ddp = data_parallel(Policies(rank, nested=False))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer = torch.optim.SGD([p for p in ddp.parameters() if p.requires_grad], lr=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ddp(feed(rank))
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    return gradients(ddp)


def power_sgd(rank):
    state = PowerSGDState(process_group=None, start_powerSGD_iter=10)
    ddp = data_parallel(Policies(rank), compress=(state, powerSGD_hook))
    backward(ddp, rank)
    backward(ddp, rank)
    return gradients(ddp)


class Large(nn.Module):
    """One parameter of many elements for each policy, two buckets of them."""

    def __init__(self):
        super().__init__()
        for name, policy in {
            "summed": "sum",
            "mean": "mean",
            "first": "only_first_replica",
        }.items():
            value = torch.zeros(5000)
            self.register_parameter(name, variable(value, aggregation=policy))

    def forward(self, x):
        return sum((p * x).sum() for p in self.parameters())


def large(rank):
    ddp = data_parallel(Large(), bucket_cap_mb=0.03)
    results = []
    for _ in range(3):
        ddp.zero_grad()
        backward(ddp, rank)
        results.append([p.grad.unique().tolist() for p in ddp.parameters()])
    ddp(torch.tensor([float("nan") if rank else 1.0])).backward()
    return results, [str(p.grad.max().item()) for p in ddp.parameters()]


def over_a_mesh(rank):
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2,))
    ddp = data_parallel(Policies(rank), device_mesh=mesh)
    backward(ddp, rank)
    return gradients(ddp)


def policies_twice(rank):
    ddp = data_parallel(Policies(rank))
    messages = []
    for _ in range(2):  # the refusal itself must leave the policies in force
        try:
            aggregate_gradients(ddp)
        except RuntimeError as error:
            messages.append(str(error))
    backward(ddp, rank)
    return messages, gradients(ddp)


def mixed_precision(rank):
    model = Policies(rank)
    try:
        data_parallel(model, mixed_precision=_MixedPrecision(param_dtype=torch.bfloat16))
    except RuntimeError as error:
        return str(error), model.summed.dtype


SCENARIOS = [
    mixed_precision,
    large,
    over_a_mesh,
    policies_twice,
    unused_on_rank_1,
    nan_on_rank_1,
    bit_equal_to_ddp,
    values_after_wrapping,
    tied,
    earlier_ignore_list,
    sparse,
    uneven_inputs,
    handle_dropped,
    gradient_penalty,
    checkpointed,
    compiled,
    mixed_dtypes,
    autocast,
    power_sgd,
]
