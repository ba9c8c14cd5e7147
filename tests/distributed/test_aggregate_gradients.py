"""Gradients under ``aggregate_gradients``: an existing DDP, FSDP2, and plain modules."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import weakref

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parallel.distributed import _MixedPrecision
from torch.utils.checkpoint import checkpoint

from tests.distributed.models import Policies, expected, feed, gradients, whole
from tests.ranks import run_ranks
from torchcreator import variable
from torchcreator.distributed import aggregate_gradients, per_rank_parameters


def in_ddp(rank, **options):
    ddp = DistributedDataParallel(Policies(rank, per_rank=False), **options)
    return ddp, aggregate_gradients(ddp)


def plain(rank, **options):
    model = Policies(rank)
    return model, aggregate_gradients(model, **options)


def in_fsdp(rank, **options):
    model = Policies(rank)
    ignored = per_rank_parameters(model)
    fully_shard(model.nested, ignored_params=ignored, **options)
    fully_shard(model, ignored_params=ignored, **options)
    return model, aggregate_gradients(model)


BF16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
HOSTS = {
    "ddp": (in_ddp, {}),
    "ddp with views": (in_ddp, {"gradient_as_bucket_view": True}),
    "ddp with tiny buckets": (in_ddp, {"bucket_cap_mb": 1e-6}),
    "plain": (plain, {}),
    "plain, fp16 on the wire": (plain, {"compress": torch.float16}),
    "plain, bf16 on the wire": (plain, {"compress": torch.bfloat16}),
    "fsdp2": (in_fsdp, {}),
    "fsdp2, never resharded": (in_fsdp, {"reshard_after_forward": False}),
    "fsdp2, bf16 parameters": (in_fsdp, {"mp_policy": BF16}),
}


def once(model, aggregation, rank):
    model(feed(rank)).backward()


def accumulated(model, aggregation, rank):
    once(model, aggregation, rank)
    once(model, aggregation, rank)


def unsynced_then_synced(model, aggregation, rank):
    with aggregation.no_sync():
        once(model, aggregation, rank)
    once(model, aggregation, rank)


def synced_unsynced_synced(model, aggregation, rank):
    once(model, aggregation, rank)
    unsynced_then_synced(model, aggregation, rank)


def zeroed_in_place(model, aggregation, rank):
    once(model, aggregation, rank)
    model.zero_grad(set_to_none=False)
    once(model, aggregation, rank)


def after_evaluation(model, aggregation, rank):
    with torch.no_grad():
        model(feed(rank))
    once(model, aggregation, rank)


SCHEDULES = {
    once: 1,
    accumulated: 2,
    unsynced_then_synced: 2,
    synced_unsynced_synced: 3,
    zeroed_in_place: 1,
    after_evaluation: 1,
}


@pytest.fixture(scope="module", params=[2, 3], ids=["two ranks", "three ranks"])
def measured(request, tmp_path_factory):
    """Every host with every schedule."""

    def measure(rank):
        results = {}
        for host, (build, options) in HOSTS.items():
            model, aggregation = build(rank, **options)
            for schedule in SCHEDULES:
                for _ in range(2):
                    model.zero_grad()
                    schedule(model, aggregation, rank)
                results[host, schedule.__name__] = gradients(model)
        return results

    return run_ranks(measure, request.param, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.__name__)
@pytest.mark.parametrize("host", HOSTS)
def test_gradients_are_those_worked_out_by_hand(measured, host, schedule):
    """Each policy gives its gradient in each host, however backwards accumulate."""
    for rank, results in enumerate(measured):
        want = expected(rank, backwards=SCHEDULES[schedule], world_size=len(measured))
        if "ddp" in host:
            want = {name: value for name, value in want.items() if not name.endswith("local")}
        # A third is no binary fraction, and on the wire it may have eight bits.
        close = 2e-2 if "16" in host else 1e-6
        assert results[host, schedule.__name__] == pytest.approx(want, rel=close)


def test_hybrid_sharding(tmp_path):
    """Over two replicas of two shards, gradients are reduced over all four, and values are one."""

    class Halves(nn.Module):
        def __init__(self, rank):
            super().__init__()
            for name in ("sum", "mean", "only_first_replica"):
                self.register_parameter(name, variable([float(rank)] * 2, aggregation=name))
            self.local = variable([float(rank)], synchronization="none")

        def forward(self, x):
            return sum((p * x).sum() for p in self.parameters())

    def play(rank):
        names = ("replicate", "shard")
        mesh = dist.device_mesh.init_device_mesh("cpu", (2, 2), mesh_dim_names=names)
        model = Halves(rank)
        fully_shard(model, mesh=mesh, ignored_params=per_rank_parameters(model))
        aggregate_gradients(model)
        values = {name: whole(p.detach()).tolist() for name, p in model.named_parameters()}
        for _ in range(2):
            model(feed(rank)).backward()
        return values, {name: whole(p.grad).tolist() for name, p in model.named_parameters()}

    for rank, (values, got) in enumerate(run_ranks(play, 4, tmp_path)):
        own = {"local": [float(rank)]}
        # Each shard is its first replica's: rank 0's half and rank 1's.
        shards = [0.0, 1.0]
        assert values == {"sum": shards, "mean": shards, "only_first_replica": shards} | own
        # Twice 1 + 2 + 3 + 4.
        total = {"sum": [20.0] * 2, "mean": [5.0] * 2, "only_first_replica": [2.0] * 2}
        assert got == total | {"local": [2.0 * (rank + 1)]}


class Unused(Policies):
    """Uses nothing of its own on the ranks that are told to skip, and `never` on none."""

    def __init__(self, rank):
        super().__init__(rank)
        self.never = nn.Parameter(torch.zeros(1))
        self.never.requires_grad_()

    def forward(self, x, skip=False):
        if skip:
            return self.nested(x)
        own = (self.summed, self.mean, self.first, self.plain, self.local)
        return sum((p * x).sum() for p in own) + self.nested(x)


def unused(rank):
    model = Unused(rank)
    aggregate_gradients(model)
    for _ in range(2):
        model(feed(rank), skip=rank == 1).backward()
    return gradients(model)


def unused_after_no_sync(rank):
    model = Unused(rank)
    aggregation = aggregate_gradients(model)
    with aggregation.no_sync():
        model(feed(rank)).backward()
    model(feed(rank), skip=True).backward()
    return gradients(model)


def nan_on_rank_1(rank):
    results = {}
    for host in ("ddp", "plain", "fsdp2"):
        model, _ = HOSTS[host][0](rank)
        model(torch.tensor([float("nan") if rank else 1.0])).backward()
        results[host] = str(gradients(model)["first"])
    return results


def raised_half_way(rank):
    class Faulty(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            raise RuntimeError(rank)

    model = Policies(rank)
    aggregate_gradients(model)
    x = feed(rank).requires_grad_()
    with contextlib.suppress(RuntimeError):
        model(Faulty.apply(x)).backward()
    model.zero_grad()
    model(feed(rank)).backward()
    return gradients(model)


def checkpointed(rank):
    model = Policies(rank, nested=False)
    aggregate_gradients(model)
    x = feed(rank).requires_grad_()
    y = checkpoint(model, x, use_reentrant=True)
    (y + checkpoint(model, x, use_reentrant=True)).backward()
    return gradients(model)


def converted(rank):
    """SUM after .to(): once through the module's own call, once around it."""
    model = Policies(rank, nested=False)
    aggregate_gradients(model)
    model.double()
    model(feed(rank).double()).backward()
    through_call = gradients(model)
    model.zero_grad()
    model.float()
    try:
        model.forward(feed(rank)).backward()
    except RuntimeError as error:
        message = str(error)
    model.zero_grad()
    model.forward(feed(rank)).backward()
    return through_call, message, gradients(model)


def evaluated_and_frozen(rank):
    results = []
    for host in ("ddp", "plain", "fsdp2"):
        model, _ = HOSTS[host][0](rank)
        if host != "fsdp2":  # whose all-gather torch itself does not do there
            with torch.inference_mode():
                model(feed(rank))
        if host == "plain":  # DDP and FSDP2 want to know beforehand
            model.summed.requires_grad_(False)
            model(feed(rank)).backward()
            assert model.summed.grad is None
            with_factors = (model.first, model.nested.summed, model.nested.first)
            for parameter in with_factors:
                parameter.requires_grad_(False)
            model(feed(rank)).backward()
            for parameter in (model.summed, *with_factors):
                parameter.requires_grad_(True)
            model.zero_grad()
        model(feed(rank)).backward()
        results.append(gradients(model)["summed"])
    return results


def called_twice(rank):
    results = []
    for host in ("ddp", "plain", "fsdp2"):
        model, _ = HOSTS[host][0](rank)
        aggregate_gradients(model)
        model(feed(rank)).backward()
        results.append(gradients(model)["summed"])
    return results


def removed(rank):
    results = []
    for host in ("ddp", "plain", "fsdp2"):
        model, aggregation = HOSTS[host][0](rank)
        aggregation.remove()
        aggregation.remove()
        model(feed(rank)).backward()
        results.append(gradients(model)["summed"])
    return results


def dropped_handle(rank):
    results = []
    for host in ("ddp", "plain", "fsdp2"):
        model, handle = HOSTS[host][0](rank)
        del handle
        gc.collect()
        model(feed(rank)).backward()
        freed, got = weakref.ref(model), gradients(model)["summed"]
        del model
        gc.collect()
        results.append((got, freed() is None))
    return results


def copied_and_pickled(rank):
    model, _ = plain(rank)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for other in copies:
        other(feed(rank)).backward()
    return [gradients(other)["summed"] for other in copies]


def values(rank):
    model, _ = plain(rank)
    return {name: p.item() for name, p in model.named_parameters()}


def large_parameters(rank):
    """Several buckets, several broadcasts, a parameter that is not contiguous."""
    model = nn.Module()
    for name, policy in {"a": "sum", "b": "mean", "c": "only_first_replica"}.items():
        value = torch.full((2000, 2000), float(rank))
        model.register_parameter(name, variable(value, aggregation=policy))
    model.d = nn.Parameter(torch.full((3, 4), float(rank)).t())
    aggregate_gradients(model)
    start = {name: p.unique().tolist() for name, p in model.named_parameters()}
    sum(((rank + 1) * p).sum() for p in model.parameters()).backward()
    return start, {name: p.grad.unique().tolist() for name, p in model.named_parameters()}


def compiled(rank):
    results = []
    for backend in ("eager", "aot_eager"):
        model, _ = plain(rank)
        step = torch.compile(model, backend=backend)
        for _ in range(2):
            step(feed(rank)).backward()
        results.append(gradients(model))
        torch.compiler.reset()
    return results


def mixed_dtypes(rank):
    model = Policies(rank, nested=False)
    model.half_ = variable(torch.zeros(1, dtype=torch.bfloat16), aggregation="sum", name="half")
    model.double_ = variable(
        torch.zeros(1, dtype=torch.float64), aggregation="only_first_replica", name="double"
    )
    model.complex_ = variable(torch.zeros(1, dtype=torch.complex64), aggregation="sum", name="c")
    aggregate_gradients(model, compress=torch.bfloat16)
    own = [p for p in model.parameters() if p.requires_grad]
    sum((p * (rank + 1)).real.sum() for p in own).backward()
    return gradients(model)


def stepping_in_backward(rank):
    model = Policies(rank)
    model.summed._in_backward_optimizers = []
    return refusal(model)


def sparse(rank):
    model = nn.Embedding(3, 1, sparse=True)
    aggregate_gradients(model)
    try:
        model(torch.tensor([0])).sum().backward()
    except RuntimeError as error:
        return str(error)


def refusal(model, **keywords):
    try:
        aggregate_gradients(model, **keywords)
    except (RuntimeError, TypeError) as error:
        return str(error)


def refused(rank):
    sharded = Policies(rank)
    fully_shard(sharded)
    ddp = DistributedDataParallel(Policies(rank, per_rank=False))
    holding = nn.Sequential(ddp)
    mixed = DistributedDataParallel(
        Policies(rank, per_rank=False), mixed_precision=_MixedPrecision(param_dtype=torch.bfloat16)
    )
    lonely = nn.Module()
    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    lonely.w = nn.Parameter(
        dist.tensor.distribute_tensor(torch.zeros(2), mesh, [dist.tensor.Shard(0)])
    )
    return {
        "per-rank in DDP": refusal(DistributedDataParallel(Policies(rank))),
        "per-rank in FSDP2": refusal(sharded),
        "another group": refusal(ddp, group=dist.new_group([0, 1])),
        "compress in DDP": refusal(ddp, compress=torch.float16),
        "compress in FSDP2": refusal(in_fsdp(rank)[0], compress=torch.float16),
        "DDP inside": refusal(holding),
        "mixed precision in DDP": refusal(mixed),
        "DTensor": refusal(lonely),
        "in backward": stepping_in_backward(rank),
    }


SCENARIOS = [
    unused,
    unused_after_no_sync,
    nan_on_rank_1,
    raised_half_way,
    checkpointed,
    converted,
    evaluated_and_frozen,
    called_twice,
    removed,
    dropped_handle,
    copied_and_pickled,
    values,
    large_parameters,
    compiled,
    mixed_dtypes,
    sparse,
    refused,
]


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The results of each scenario on rank 0 and rank 1."""

    def play(rank):
        return {scenario.__name__: scenario(rank) for scenario in SCENARIOS}

    both = run_ranks(play, 2, tmp_path_factory.mktemp("ranks"))
    return {name: [rank[name] for rank in both] for name in both[0]}


def test_unused_on_one_rank_or_on_all(played):
    """What one rank did not use gets the others' part; what none used keeps None."""
    twice = {"summed": 2.0, "mean": 1.0, "first": 2.0, "plain": 1.0, "never": None}
    zero, one = played["unused"]
    assert zero == expected(0, backwards=2) | twice | {"local": 2.0}
    assert one == expected(1, backwards=2) | twice | {"local": None}


def test_what_an_unsynchronised_backward_used_is_reduced_by_the_next(played):
    """A gradient that no_sync() held back travels with the next backward, used there or not."""
    for rank, got in enumerate(played["unused_after_no_sync"]):
        nested = {k: v for k, v in expected(rank, backwards=2).items() if "." in k}
        assert got == expected(rank) | nested | {"never": None}


def test_evaluation_and_frozen_parameters_do_no_harm(played):
    """A sum is a sum after a forward in inference mode, and after its parameter was frozen."""
    assert played["evaluated_and_frozen"] == [[3.0, 3.0, 3.0]] * 2


def test_a_nan_stays_on_its_rank_where_only_the_first_counts(played):
    """ONLY_FIRST_REPLICA drops rank 1's NaN in every host."""
    assert played["nan_on_rank_1"] == [{"ddp": "1.0", "plain": "1.0", "fsdp2": "1.0"}] * 2


def test_a_backward_that_raised_leaves_nothing_behind(played):
    """After a backward that failed half-way, the next one is right."""
    assert played["raised_half_way"] == [expected(0), expected(1)]


def test_reentrant_checkpointing(played):
    """Backwards inside backwards each reduce what they bring, and it adds up."""
    for rank, got in enumerate(played["checkpointed"]):
        bare = {k: v for k, v in expected(rank, backwards=2).items() if "." not in k}
        assert got == bare


def test_conversion_does_not_turn_sum_into_mean(played):
    """After ``.to()`` a call of the module puts SUM back; around the call, it is an error once."""
    for rank, (through_call, message, afterwards) in enumerate(played["converted"]):
        bare = {k: v for k, v in expected(rank).items() if "." not in k}
        assert through_call == bare
        assert "arrived without its aggregation" in message
        assert "'summed'" in message or "'first'" in message
        assert afterwards == bare


def test_calling_twice_replaces(played):
    """A second call does not sum the sum."""
    assert played["called_twice"] == [[3.0, 3.0, 3.0]] * 2


def test_remove_gives_the_host_back(played):
    """Without the policies DDP and FSDP2 average, and a plain module's gradients are its own."""
    assert played["removed"] == [[1.5, 1.0, 1.5], [1.5, 2.0, 1.5]]


def test_the_handle_need_not_be_kept(played):
    """A handle that the caller drops does not turn SUM into MEAN, nor does it keep the model."""
    assert played["dropped_handle"] == [[(3.0, True)] * 3] * 2


def test_copies_of_a_plain_module_are_on_their_own(played):
    """A copy or an unpickled model does not communicate until it is given its policies too."""
    assert played["copied_and_pickled"] == [[1.0, 1.0], [2.0, 2.0]]


def test_a_plain_module_gets_rank_0s_values(played):
    """Shared parameters become rank 0's, per-rank ones stay."""
    for rank, got in enumerate(played["values"]):
        own = {name for name in got if name.endswith(("local", "counter"))}
        assert {got[name] for name in own} == {float(rank)}
        assert {got[name] for name in got.keys() - own} == {0.0}


def test_large_and_transposed_parameters(played):
    """Parameters that fill several buckets, and one that is not contiguous, fare the same."""
    start = {name: [0.0] for name in "abcd"}
    assert (
        played["large_parameters"]
        == [(start, {"a": [3.0], "b": [1.5], "c": [1.0], "d": [1.5]})] * 2
    )


def test_compiled_models(played):
    """A compiled plain module reduces as an eager one does."""
    for rank, results in enumerate(played["compiled"]):
        assert results == [expected(rank, backwards=2)] * 2


def test_mixed_dtypes(played):
    """Each dtype travels on its own, complex ones uncompressed."""
    for rank, got in enumerate(played["mixed_dtypes"]):
        bare = {k: v for k, v in expected(rank).items() if "." not in k}
        assert got == bare | {"half_": 3.0, "double_": 1.0, "complex_": 3.0}


def test_sparse_gradients_are_refused_by_name(played):
    """A sparse gradient in a plain module is an error that names the parameter and the way out."""
    for message in played["sparse"]:
        assert "'weight' is sparse" in message
        assert "data_parallel()" in message


@pytest.mark.parametrize(
    ("case", "message"),
    {
        "per-rank in DDP": "'local' is in the hands of DistributedDataParallel, and has a value",
        "per-rank in FSDP2": "'local' is sharded, and is NONE",
        "another group": "a group other than the DDP's own",
        "compress in DDP": "compress=torch.float16 for a model in DDP",
        "compress in FSDP2": "reduce_dtype=torch.float16",
        "DDP inside": "Module '0' of the model is a DistributedDataParallel",
        "mixed precision in DDP": "was given a DDP with mixed_precision=_MixedPrecision(param_dty",
        "DTensor": "Parameter 'w' is a DTensor",
        "in backward": "'summed' is stepped by an optimizer inside the backward",
    }.items(),
)
def test_what_a_host_cannot_do_is_refused(played, case, message):
    """Each refusal names the variable or the option, and what to write instead."""
    for refusals in played["refused"]:
        assert message in refusals[case]
