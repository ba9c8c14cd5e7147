"""What a variable was declared to be survives every way of copying, converting and sharding."""

from __future__ import annotations

import copy
import gc
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_module, distribute_tensor
from torch.nn.utils import parametrizations, parametrize
from torch.optim.swa_utils import AveragedModel

import torchcreator as tc
from tests.ranks import run_ranks
from torchcreator import _table
from torchcreator._errors import DistributedError
from torchcreator.constraints import Clip


def declaring(next_creator, **kwargs):
    """Declare something of its own for every parameter of a stock module."""
    if kwargs["module"] is not None:
        kwargs |= {"aggregation": "sum", "constraint": "non_neg", "tags": {"of": kwargs["name"]}}
    return next_creator(**kwargs)


class Model(nn.Module):
    """A variable of its own, stock modules, a lazy value and a frozen parameter."""

    def __init__(self):
        super().__init__()
        self.gain = tc.variable(torch.ones(4), name="gain", constraint="non_neg", tags={"lr": 2})
        self.steps = tc.variable(0, name="steps", aggregation="only_first_replica")
        self.body = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))

    def forward(self, x):
        return self.body(x * self.gain)


def model():
    """Make one."""
    with tc.creator_scope(declaring):
        return Model()


def declared(module):
    """Return the spec of each parameter by full name."""
    return {name: spec for name, _, spec in tc.named_specs(module)}


def step(module):
    """Take a step that would leave every trainable parameter negative."""
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1.0)
    for p in trained:
        p.grad = torch.full_like(p, 100.0)
    optimizer.step()
    return trained


# Ways of copying and converting a module


def saved(module):
    """Save a whole module and load it."""
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


def assigned(module):
    """Load a state_dict by assignment."""
    module.load_state_dict(copy.deepcopy(module.state_dict()), assign=True)
    return module


def emptied(module):
    """Give a module new memory."""
    module.to_empty(device="cpu")
    for p in module.parameters():
        p.data.fill_(1)
    return module


def through_meta(module):
    """Take a module to the meta device and back."""
    return emptied(module.to("meta"))


def overwriting(module):
    """Convert with torch's switch that replaces the parameter objects."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        return module.double()
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def swapping(module):
    """Convert with torch's switch that swaps what the parameter objects hold."""
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        return module.double().float()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def swapped_tensors(module):
    """Exchange every parameter with a fresh one."""
    for p in module.parameters():
        torch.utils.swap_tensors(p, nn.Parameter(p.detach().clone(), p.requires_grad))
    return module


def parametrized(module):
    """Parametrize a weight and remove that again."""
    parametrizations.spectral_norm(module.body[0])
    parametrize.remove_parametrizations(module.body[0], "weight")
    return module


def weight_normed(module):
    """Normalise a weight and remove that again."""
    parametrizations.weight_norm(module.body[0])
    parametrize.remove_parametrizations(module.body[0], "weight")
    module.body[0]._load_state_dict_pre_hooks.clear()  # torch leaves one that cannot be pickled
    return module


WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "ema": lambda module: AveragedModel(module).module,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "save": saved,
    "to": lambda module: module.to(torch.float64),
    "half": nn.Module.half,
    "double": nn.Module.double,
    "to_empty": emptied,
    "meta": through_meta,
    "assign": assigned,
    "overwrite": overwriting,
    "swap": swapping,
    "swap_tensors": swapped_tensors,
    "share_memory": nn.Module.share_memory,
    "parametrize": parametrized,
    "weight_norm": weight_normed,
    "compile": lambda module: torch.compile(module, backend="eager")._orig_mod,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_keeps_the_specs_of_a_module(way):
    """The specs are equal after it, and the optimizers' hook still carries out the constraints."""
    original = model()
    expected = declared(original)
    result = way(original)
    assert declared(result) == expected
    assert {name: tc.spec_of(p) for name, p in result.named_parameters()} == expected
    assert all((p == 0.0).all() for p in step(result))


@settings(max_examples=60, deadline=None)
@given(ways=st.lists(st.sampled_from(sorted(WAYS)), min_size=2, max_size=6))
def test_ways_combine(ways):
    """After any sequence of ways the specs are what they were, and so is what the hook does."""
    result = model()
    expected = declared(result)
    for way in ways:
        result = WAYS[way](result)
    assert declared(result) == expected
    assert all((p == 0.0).all() for p in step(result))


def test_a_copy_and_its_original_are_both_found():
    """After a deep copy the specs of both are found, each from its own parameters."""
    original = model()
    copied = copy.deepcopy(original)
    for p, q in zip(original.parameters(), copied.parameters(), strict=True):
        assert p is not q
        assert tc.spec_of(p) == tc.spec_of(q) is not None


def test_a_shallow_copy_shares_parameters_and_specs():
    """``copy.copy`` of a module shares both."""
    original = model()
    copied = copy.copy(original)
    assert copied.gain is original.gain
    del original
    gc.collect()
    assert len(declared(copied)) == 6


def test_ties_have_one_spec_after_copying():
    """A tied parameter stays tied in a copy, and its spec is found under both owners."""
    with tc.creator_scope(declaring):
        tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        tied[1].weight = tied[0].weight
    for way in (copy.deepcopy, WAYS["pickle"], saved):
        copied = way(tied)
        assert copied[1].weight is copied[0].weight
        assert [*declared(copied)] == ["0.weight", "0.bias", "1.bias"]
        assert declared(copied[1])["weight"].tags == {"of": "weight"}


def test_a_table_lives_as_long_as_its_module():
    """Tables of modules that are gone are not looked at any more."""
    gc.collect()
    before = len(_table._live)
    models = [copy.deepcopy(model()) for _ in range(10)]
    assert len(_table._live) > before
    del models
    gc.collect()
    assert len(_table._live) == before


def test_the_dataclass_is_frozen_and_equal_by_value():
    """A spec cannot be changed, and two specs that say the same are equal."""
    spec = tc.spec_of(tc.variable([1.0], name="a", constraint="non_neg"))
    assert spec == pickle.loads(pickle.dumps(spec))
    assert copy.deepcopy(spec) is spec
    with pytest.raises(AttributeError, match="trainable"):
        spec.trainable = False


def test_a_parameter_nobody_declared_has_none():
    """`spec_of` is None for plain parameters, and `named_specs` leaves them out."""
    layer = nn.Linear(2, 2)
    assert tc.spec_of(layer.weight) is None
    assert declared(layer) == {}
    layer.gain = tc.variable([1.0], name="gain")
    assert [*declared(layer)] == ["gain"]


def test_a_replaced_parameter_keeps_the_declaration_of_its_name():
    """A module's variable is the name: what is assigned to it later is the same variable."""
    module = model()
    expected = declared(module)
    module.gain = nn.Parameter(torch.zeros(4))
    assert declared(module) == expected


def test_a_deleted_parameter_has_no_spec():
    """Nothing is found for a name that is gone."""
    module = model()
    del module.gain
    assert "gain" not in declared(module)


def test_names_come_in_the_order_of_named_parameters():
    """`named_specs` yields full names, in order, each parameter once."""
    module = model()
    module.alias = module.gain
    assert [*declared(module)] == [name for name, _ in module.named_parameters()]


# Parameters outside any module


def loaded(parameter):
    """Save a parameter and load it, as torch does by default."""
    stream = io.BytesIO()
    torch.save(parameter, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


LOOSE_WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda p: pickle.loads(pickle.dumps(p)),
    "oldest-pickle": lambda p: pickle.loads(pickle.dumps(p, protocol=2)),
    "save": loaded,
    "share_memory": lambda p: p.share_memory_(),
    "data": lambda p: setattr(p, "data", p.detach().double().to(p.dtype)) or p,
    "list": lambda p: copy.deepcopy([p, p])[1],
    "list-parameter": lambda p: copy.deepcopy(nn.ParameterList([p]))[0],
    "optimizer": lambda p: copy.deepcopy(torch.optim.SGD([p])).param_groups[0]["params"][0],
}


def loose():
    """A parameter outside any module, with something to say in every field that can be pickled."""
    return tc.variable(
        torch.ones(2, 3),
        name="loose",
        constraint=Clip(0.0, 1.0),
        synchronization="on_write",
        aggregation="mean",
        caching_device="cpu",
        tags={"lr": 0.1, "names": ["a", "b"]},
    )


@pytest.mark.parametrize("way", LOOSE_WAYS.values(), ids=LOOSE_WAYS)
def test_every_way_keeps_the_spec_of_a_loose_parameter(way):
    """The spec, the kind and the value are equal after it, and the hook still finds it."""
    original = loose()
    expected = tc.spec_of(original)
    result = way(original)
    assert tc.spec_of(result) == expected
    assert type(result) is nn.Parameter
    assert result.requires_grad
    assert result.tolist() == [[1.0] * 3] * 2
    result.grad = torch.full_like(result, 100.0)
    torch.optim.SGD([result], lr=1.0).step()
    assert (result == 0.0).all()


@settings(max_examples=60, deadline=None)
@given(ways=st.lists(st.sampled_from(sorted(LOOSE_WAYS)), min_size=2, max_size=6))
def test_ways_combine_for_loose_parameters(ways):
    """After any sequence of ways a loose parameter's spec is what it was."""
    result = loose()
    expected = tc.spec_of(result)
    for way in ways:
        result = LOOSE_WAYS[way](result)
    assert tc.spec_of(result) == expected


@pytest.mark.parametrize(
    "constraint",
    ["non_neg", "max_norm", "min_max_norm", "unit_norm", "orthogonal", "symmetric", Clip(0, 1)],
    ids=str,
)
def test_ready_made_constraints_are_loaded_with_weights_only(constraint):
    """torch.load with its default accepts a loose parameter with a ready-made constraint."""
    original = tc.variable(torch.eye(3), constraint=constraint)
    assert tc.spec_of(loaded(original)) == tc.spec_of(original)


def test_copies_of_a_tied_loose_parameter_stay_tied():
    """One parameter in two places is one parameter in a copy."""
    p = loose()
    first, second = copy.deepcopy([p, p])
    assert first is second is not p


def test_a_copy_shares_no_memory_with_its_original():
    """A deep copy of a loose parameter is independent, gradient included."""
    p = loose()
    p.grad = torch.ones_like(p)
    q = copy.deepcopy(p)
    with torch.no_grad():
        q.zero_()
    assert p.tolist() == [[1.0] * 3] * 2


def test_swapping_takes_the_spec_along():
    """``torch.utils.swap_tensors`` exchanges attributes, and with them a loose parameter's spec."""
    p, q = loose(), nn.Parameter(torch.zeros(1))
    expected = tc.spec_of(p)
    torch.utils.swap_tensors(p, q)
    assert tc.spec_of(q) == expected
    assert tc.spec_of(p) is None


UNINITIALIZED_WAYS = [
    "copy",
    "deepcopy",
    "pickle",
    "oldest-pickle",
    "save",
    "list",
    "list-parameter",
]


@pytest.mark.parametrize("way", UNINITIALIZED_WAYS)
def test_a_parameter_without_shape_keeps_its_spec(way):
    """An UninitializedParameter's copy has its spec, dtype and trainability, and materialises."""
    p = tc.variable(
        validate_shape=False, trainable=False, dtype=torch.float64, name="u", constraint="non_neg"
    )
    expected = tc.spec_of(p)
    q = LOOSE_WAYS[way](p)
    assert type(q) is nn.UninitializedParameter
    assert q is not p
    assert (q.dtype, q.requires_grad, tc.spec_of(q)) == (torch.float64, False, expected)
    q.materialize((2,))
    assert type(q) is nn.Parameter
    assert tc.spec_of(q) == expected
    assert tc.spec_of(LOOSE_WAYS[way](q)) == expected


@settings(max_examples=40, deadline=None)
@given(
    before=st.lists(st.sampled_from(UNINITIALIZED_WAYS), max_size=3),
    after=st.lists(st.sampled_from(sorted(LOOSE_WAYS)), max_size=3),
)
def test_ways_combine_before_and_after_materialising(before, after):
    """A parameter copied without a shape, materialised and copied again keeps its spec."""
    p = tc.variable(validate_shape=False, name="u", tags={"lr": 1})
    expected = tc.spec_of(p)
    for way in before:
        p = LOOSE_WAYS[way](p)
    p.materialize((2,))
    with torch.no_grad():
        p.fill_(1.0)
    for way in after:
        p = LOOSE_WAYS[way](p)
    assert tc.spec_of(p) == expected
    assert p.tolist() == [1.0, 1.0]


def test_an_uninitialized_variable_in_a_module_survives():
    """A variable without shape that a module owns keeps its spec through copies of the module."""
    module = nn.Module()
    module.u = tc.variable(validate_shape=False, name="u", aggregation="sum")
    for way in (copy.deepcopy, WAYS["pickle"], saved):
        copied = way(module)
        copied.u.materialize((2,))
        assert tc.spec_of(copied.u) == tc.spec_of(module.u)


# What cannot be pickled


@pytest.mark.parametrize("dump", [pickle.dumps, loaded], ids=["pickle", "save"])
def test_a_lambda_as_constraint_cannot_be_pickled(dump):
    """The error names the variable and says to write a function in a module, or a class."""
    p = tc.variable([1.0], name="gain", constraint=lambda w: w)
    with pytest.raises(tc.TorchCreatorError, match=r"'?gain'?(.*\n)*.*module"):
        dump(p)


def test_a_lambda_as_constraint_can_be_deep_copied():
    """Copies in one process share the declaration, whatever it holds."""
    p = tc.variable([1.0], name="gain", constraint=lambda w: w.abs())
    assert tc.spec_of(copy.deepcopy(p)) == tc.spec_of(p)
    module = nn.Module()
    module.p = p
    assert tc.spec_of(copy.deepcopy(module).p) == tc.spec_of(p)


# What makes other objects of a module's parameters


@pytest.mark.parametrize("apply", [parametrizations.spectral_norm, parametrizations.orthogonal])
def test_a_parametrized_original_has_the_spec(apply):
    """The original behind a parametrization is the declared variable, constraint included."""
    module = model()
    expected = tc.spec_of(module.body[0].weight)
    apply(module.body[0])
    original = module.body[0].parametrizations.weight.original
    assert tc.spec_of(original) == expected
    assert declared(module)["body.0.parametrizations.weight.original"] == expected
    for way in (copy.deepcopy, nn.Module.double):
        copied = way(module)
        assert tc.spec_of(copied.body[0].parametrizations.weight.original) == expected


def test_a_normalised_weight_is_not_constrained():
    """weight_norm's pieces have the policies and tags, but no constraint holds for a piece."""
    module = model()
    whole = tc.spec_of(module.body[0].weight)
    parametrizations.weight_norm(module.body[0])
    pieces = [*module.body[0].parametrizations.weight.parameters()]
    assert len(pieces) == 2
    for piece in pieces:
        spec = tc.spec_of(piece)
        assert spec.constraint is None
        assert (spec.aggregation, spec.tags) == (whole.aggregation, whole.tags)
    step(module)
    assert all((piece < 0).all() for piece in pieces)


def test_a_compiled_model_is_trained_under_its_constraints():
    """torch.compile finds the specs by its own names, and the hook acts after its steps."""
    original = model()
    compiled = torch.compile(original, backend="eager")
    optimizer = torch.optim.SGD([p for p in compiled.parameters() if p.requires_grad], lr=100.0)
    for _ in range(3):
        compiled(torch.randn(2, 4)).square().sum().backward()
        optimizer.step()
    trained = [p for p in original.parameters() if p.requires_grad]
    assert all((p >= 0).all() for p in trained)
    names = {name.removeprefix("_orig_mod."): spec for name, spec in declared(compiled).items()}
    assert names == declared(original)


def test_an_average_of_models_has_specs_of_its_own():
    """A model's moving average and a copy of that are found through their own parameters."""
    original = model()
    average = copy.deepcopy(AveragedModel(original, multi_avg_fn=None))
    average.update_parameters(original)
    names = {name.removeprefix("module."): spec for name, spec in declared(average).items()}
    assert names == declared(original)


# Ranks


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
