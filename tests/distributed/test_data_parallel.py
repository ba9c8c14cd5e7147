"""Gradients under ``data_parallel``, compared with numbers worked out by hand."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.nn.parallel.distributed import _MixedPrecision
from torch.utils.checkpoint import checkpoint

from tests.distributed.models import Policies, expected, feed, gradients
from tests.ranks import run_ranks
from torchcreator import variable
from torchcreator.distributed import aggregate_gradients, data_parallel

OPTIONS = {
    "defaults": {},
    "gradient_as_bucket_view": {"gradient_as_bucket_view": True},
    "find_unused_parameters": {"find_unused_parameters": True},
    "static_graph": {"static_graph": True},
    "tiny buckets": {"bucket_cap_mb": 1e-6},
    "views of tiny buckets": {"bucket_cap_mb": 1e-6, "gradient_as_bucket_view": True},
    "one huge bucket": {"bucket_cap_mb": 1000},
    "fp16 on the wire": {"compress": torch.float16},
    "bf16 on the wire": {"compress": torch.bfloat16},
    "torch's own fp16 hook": {"compress": default_hooks.fp16_compress_hook},
    "a hook with a state": {"compress": (None, default_hooks.allreduce_hook)},
}


def backward(ddp: nn.Module, rank: int) -> None:
    ddp(feed(rank)).backward()


def once(ddp: nn.Module, rank: int) -> None:
    backward(ddp, rank)


def accumulated(ddp: nn.Module, rank: int) -> None:
    backward(ddp, rank)
    backward(ddp, rank)


def unsynced_then_synced(ddp: nn.Module, rank: int) -> None:
    with ddp.no_sync():
        backward(ddp, rank)
    backward(ddp, rank)


def synced_unsynced_synced(ddp: nn.Module, rank: int) -> None:
    backward(ddp, rank)
    unsynced_then_synced(ddp, rank)


def zeroed_in_place(ddp: nn.Module, rank: int) -> None:
    backward(ddp, rank)
    ddp.zero_grad(set_to_none=False)
    backward(ddp, rank)


def dropped_between(ddp: nn.Module, rank: int) -> None:
    accumulated(ddp, rank)
    ddp.zero_grad()
    accumulated(ddp, rank)


def forward_alone_unsynced(ddp: nn.Module, rank: int) -> None:
    # DDP decides in forward: this backward is not synchronised, though no_sync() is over.
    with ddp.no_sync():
        loss = ddp(feed(rank))
    loss.backward()
    backward(ddp, rank)


SCHEDULES = {
    once: 1,
    accumulated: 2,
    unsynced_then_synced: 2,
    synced_unsynced_synced: 3,
    zeroed_in_place: 1,
    dropped_between: 2,
    forward_alone_unsynced: 2,
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Every option with every schedule, in one world of two ranks."""

    def measure(rank):
        results = {}
        for option, keywords in OPTIONS.items():
            ddp = data_parallel(Policies(rank), **keywords)
            backward(ddp, rank)  # torch's static graph wants its first backward synchronised
            for schedule in SCHEDULES:
                for _ in range(3):  # DDP rebuilds its buckets after the first backward
                    ddp.zero_grad()
                    schedule(ddp, rank)
                results[option, schedule.__name__] = gradients(ddp)
        return results

    return run_ranks(measure, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.__name__)
@pytest.mark.parametrize("option", OPTIONS)
def test_gradients_are_those_worked_out_by_hand(measured, option, schedule):
    """Each policy gives its gradient, with each of DDP's options, however backwards accumulate."""
    for rank, results in enumerate(measured):
        assert results[option, schedule.__name__] == expected(rank, backwards=SCHEDULES[schedule])


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


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The results of each scenario on rank 0 and rank 1."""

    def play(rank):
        return {scenario.__name__: scenario(rank) for scenario in SCENARIOS}

    both = run_ranks(play, 2, tmp_path_factory.mktemp("ranks"))
    return {name: [rank[name] for rank in both] for name in both[0]}


def test_large_parameters(played):
    """Gradients too large for one product of the bucket are scaled one by one, NaN included."""
    for results, spoiled in played["large"]:
        assert results == [[[3.0], [1.5], [1.0]]] * 3
        assert spoiled == ["nan", "nan", "2.0"]


def test_a_mesh_names_the_ranks(played):
    """A device mesh serves as DDP's own option does."""
    assert played["over_a_mesh"] == [expected(0), expected(1)]


def test_mixed_precision_of_ddp_is_refused(played):
    """DDP's mixed precision is refused before the model is touched, with what to do instead."""
    for message, dtype in played["mixed_precision"]:
        what, why, instead = message.splitlines()
        assert what.startswith("data_parallel() was given a DDP with mixed_precision=_MixedPreci")
        assert "communication hook" in why
        assert "torch.autocast()" in instead
        assert dtype == torch.float32


def test_policies_are_not_applied_twice(played):
    """A DDP from data_parallel refuses aggregate_gradients, and goes on as before."""
    for rank, (messages, got) in enumerate(played["policies_twice"]):
        assert len(messages) == 2
        assert all("has its policies from data_parallel() already" in m for m in messages)
        assert got == expected(rank)


def test_unused_on_one_rank(played):
    """A parameter that rank 1 never uses gets what rank 0 has to say, by its policy."""
    twice = {"summed": 2.0, "mean": 1.0, "first": 2.0, "plain": 1.0}
    zero, one = played["unused_on_rank_1"]
    assert zero == expected(0, backwards=2) | twice | {"local": 2.0}
    assert one == expected(1, backwards=2) | twice | {"local": None}


def test_a_nan_stays_where_the_policy_keeps_it(played):
    """A NaN on rank 1 reaches what is summed or averaged, and nothing of rank 0's alone."""
    zero, one = played["nan_on_rank_1"]
    shared = {"summed": "nan", "mean": "nan", "plain": "nan", "first": "1.0"}
    assert zero == shared | {"local": "1.0"}
    assert one == shared | {"local": "nan"}


def test_without_policies_nothing_changes(played):
    """The gradients of a model without any policy are plain DDP's, bit for bit."""
    assert played["bit_equal_to_ddp"] == [True, True]


def test_shared_values_become_rank_0s_and_per_rank_ones_stay(played):
    """Wrapping broadcasts what is one value on all ranks, and leaves per-rank values alone."""
    for rank, values in enumerate(played["values_after_wrapping"]):
        own = {name for name in values if name.endswith(("local", "counter"))}
        assert {name: value for name, value in values.items() if name in own} == dict.fromkeys(
            own, float(rank)
        )
        assert {value for name, value in values.items() if name not in own} == {0.0}


def test_every_alias_of_a_tied_parameter_is_treated_alike(played):
    """A per-rank parameter with three names stays out of DDP; a summed one with two sums once."""
    assert played["tied"] == [(0.0, 2.0, 6.0), (1.0, 4.0, 6.0)]


def test_an_earlier_ignore_list_is_kept(played):
    """What somebody else told DDP to ignore is still ignored, beside what is per rank."""
    assert played["earlier_ignore_list"] == [(1.0, 1.0, 0.0), (2.0, 2.0, 1.0)]


def test_sparse_gradients(played):
    """Sparse gradients follow the policies too, and add up."""
    one = [[3.0, 0.0], [1.5, 0.0], [1.0, 0.0]]
    two = [[6.0, 0.0], [3.0, 0.0], [2.0, 0.0]]
    assert played["sparse"] == [[one, one, two]] * 2


def test_uneven_inputs_with_join(played):
    """A rank that ran out of data takes part with zeros: SUM gets the rest, MEAN half of it."""
    zero, one = played["uneven_inputs"]
    both = {"summed": 3.0, "mean": 1.5, "first": 1.0, "plain": 1.5}
    alone = {"summed": 2.0, "mean": 1.0, "first": 0.0, "plain": 1.0}
    assert zero == [both | {"local": 1.0}]
    assert one == [both | {"local": 2.0}, alone | {"local": 2.0}]


def test_nobody_needs_to_keep_anything_and_nothing_is_kept(played):
    """The policies hold as long as the DDP lives, and do not keep it alive."""
    assert played["handle_dropped"] == [(expected(0), True), (expected(1), True)]


def test_autograd_grad_is_left_alone(played):
    """``torch.autograd.grad`` gives this rank's own gradient; only a backward is scaled."""
    assert played["gradient_penalty"] == [(1.0, 3.0), (2.0, 3.0)]


def test_two_arrivals_in_one_backward(played):
    """Reentrant checkpointing brings a gradient in two parts; both count once."""
    for rank, got in enumerate(played["checkpointed"]):
        once_each = {k: v for k, v in expected(rank, backwards=2).items() if "." not in k}
        assert got == once_each


def test_compiled_models(played):
    """A compiled step reduces as an eager one does."""
    for rank, results in enumerate(played["compiled"]):
        bare = {k: v for k, v in expected(rank, backwards=2).items() if "." not in k}
        assert results == [bare, bare]


def test_mixed_dtypes(played):
    """Parameters of several dtypes travel in buckets of their own, each with its policy."""
    for rank, got in enumerate(played["mixed_dtypes"]):
        bare = {k: v for k, v in expected(rank).items() if "." not in k}
        assert got == bare | {"half_summed": 3.0, "double_first": 1.0}


def test_gradient_scaling(played):
    """Scaled and unscaled by GradScaler, under autocast, gradients are the same."""
    for rank, got in enumerate(played["autocast"]):
        assert got == {k: v for k, v in expected(rank).items() if "." not in k}


def test_a_stateful_comm_hook(played):
    """PowerSGD takes DDP's only slot, and the policies hold beside it."""
    for rank, got in enumerate(played["power_sgd"]):
        assert got == expected(rank, backwards=2)
