"""Stock modules in a scope: what their creators see, and what becomes of what they answer."""

from __future__ import annotations

import copy
import gc
import threading

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn.utils import parametrizations, parametrize, prune

import torchcreator as tc
from torchcreator import _private


class Ledger:
    """A creator that passes everything on and remembers what it saw."""

    def __init__(self):
        self.calls = []

    def __call__(self, next_creator, **kwargs):
        self.calls.append(kwargs)
        return next_creator(**kwargs)

    @property
    def names(self):
        """What it saw, as ``Owner.name``."""
        return [f"{type(call['module']).__name__}.{call['name']}" for call in self.calls]


@pytest.fixture
def ledger():
    return Ledger()


def constant(value):
    """A creator that gives every parameter one value."""

    def creator(next_creator, **kwargs):
        kwargs["initial_value"] = torch.full(kwargs["shape"], value, dtype=kwargs["dtype"])
        return next_creator(**kwargs)

    return creator


def changed(**changes):
    """A creator that changes keywords."""

    def creator(next_creator, **kwargs):
        return next_creator(**{**kwargs, **changes})

    return creator


class Own(nn.Module):
    """A user's module: it keeps the parameter it made, hooks it, and fills it afterwards."""

    def __init__(self, **kwargs):
        super().__init__()
        made = nn.Parameter(torch.empty(2, 3), **kwargs)
        made.note = "mine"
        if made.requires_grad:
            made.register_hook(torch.neg)
        self.w = made
        self.made = [made]
        nn.init.constant_(made, 5.0)


# What creators see


def test_a_creator_sees_the_owner_and_what_the_owner_made(ledger):
    """``module`` is the owner, ``name`` its local name; shape, dtype and device are its own."""
    with tc.creator_scope(ledger):
        layer = nn.Linear(2, 3, dtype=torch.float64)
    first, second = ledger.calls
    assert first["module"] is layer
    assert second["module"] is layer
    assert [call["name"] for call in ledger.calls] == ["weight", "bias"]
    assert [call["shape"] for call in ledger.calls] == [(3, 2), (3,)]
    assert {call["dtype"] for call in ledger.calls} == {torch.float64}
    assert {call["device"] for call in ledger.calls} == {torch.device("cpu")}


def test_a_creator_sees_every_keyword_at_its_default(ledger):
    """A stock module's parameter brings all the keywords of `variable`, undecided."""
    with tc.creator_scope(ledger):
        tc.variable(1.0)
        nn.Linear(2, 3)
    variable, weight, _ = ledger.calls
    assert weight.keys() == variable.keys()
    differing = {"initial_value", "name", "dtype", "shape", "device", "module"}
    assert {key for key in weight if weight[key] != variable[key]} <= differing


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(2, 3),
        lambda: nn.LSTM(2, 3),
        lambda: nn.MultiheadAttention(4, 2),
        lambda: nn.ParameterList([torch.ones(2)]),
        lambda: nn.Embedding.from_pretrained(torch.ones(2, 2)),
        lambda: nn.LazyLinear(3),
        Own,
    ],
    ids=["linear", "lstm", "attention", "list", "pretrained", "lazy", "user's"],
)
def test_uninitialised_memory_is_never_handed_out(ledger, make):
    """``initial_value`` is None and no keyword holds a tensor: the module has no value yet."""
    with tc.creator_scope(ledger):
        make()
    assert ledger.calls
    assert all(call["initial_value"] is None for call in ledger.calls)
    values = [value for call in ledger.calls for value in call.values()]
    assert not any(isinstance(value, torch.Tensor) for value in values)


@pytest.mark.parametrize(
    ("requires_grad", "seen"), [(True, None), (False, False)], ids=["trained", "frozen"]
)
def test_trainable_is_false_only_where_the_module_froze_it(ledger, requires_grad, seen):
    """``trainable`` is False where the module set ``requires_grad=False``, else None."""
    with tc.creator_scope(ledger):
        module = Own(requires_grad=requires_grad)
    assert [call["trainable"] for call in ledger.calls] == [seen]
    assert module.w.requires_grad is requires_grad
    assert tc.spec_of(module.w).trainable is requires_grad


def test_none_parameters_are_left(recorded_variables):
    """A parameter that is None is not made."""
    layer = nn.Linear(2, 3, bias=False)
    layer.register_parameter("gain", None)
    recorded_variables.assert_created("weight", count=1)
    layer.weight = None
    recorded_variables.assert_created("*", count=1)


def test_plain_tensors_in_a_parameter_list_are_made(ledger):
    """What ParameterList and ParameterDict turn into parameters passes the creators."""
    with tc.creator_scope(ledger):
        nn.ParameterList([torch.zeros(2), nn.Parameter(torch.ones(1))])
        nn.ParameterDict({"a": torch.zeros(1)})
    assert ledger.names == ["ParameterList.0", "ParameterList.1", "ParameterDict.a"]


def test_a_parameter_set_after_construction_is_made(ledger):
    """A new parameter that somebody assigns to a finished module passes the creators too."""
    layer = nn.Linear(2, 3)
    with tc.creator_scope(ledger):
        layer.weight = nn.Parameter(torch.ones(3, 2))
        layer.register_parameter("gain", nn.Parameter(torch.ones(3)))
    assert ledger.names == ["Linear.weight", "Linear.gain"]
    assert layer.weight.tolist() == [[1.0, 1.0]] * 3


def test_a_parameter_assigned_twice_in_a_constructor_is_made_twice(ledger):
    """A subclass that replaces what its base made brings a new parameter."""

    class Narrow(nn.Linear):
        def __init__(self):
            super().__init__(8, 8)
            self.weight = nn.Parameter(torch.ones(8, 1))

    with tc.creator_scope(ledger):
        module = Narrow()
    assert ledger.names == ["Narrow.weight", "Narrow.bias", "Narrow.weight"]
    assert tc.spec_of(module.weight).shape == (8, 1)


# Adoption


def test_the_modules_own_parameter_object_is_adopted():
    """Where only policies changed, the object, its attributes, hooks and value stay."""
    with tc.creator_scope(changed(aggregation="sum", tags={"lr": 2})):
        module = Own()
    (made,) = module.made
    assert module.w is made
    assert type(made) is nn.Parameter
    assert made.note == "mine"
    assert made.tolist() == [[5.0] * 3] * 2
    made.sum().backward()
    assert made.grad.tolist() == [[-1.0] * 3] * 2
    assert tc.spec_of(made).aggregation is tc.VariableAggregation.SUM
    assert tc.spec_of(made).tags == {"lr": 2}


def test_adoption_copies_nothing():
    """The adopted parameter keeps its memory."""

    class Noting(nn.Module):
        def __init__(self):
            super().__init__()
            made = nn.Parameter(torch.zeros(2))
            self.address = made.data_ptr()
            self.w = made

    with tc.creator_scope(changed(constraint="non_neg")):
        module = Noting()
    assert module.w.data_ptr() == module.address


@pytest.mark.parametrize("trainable", [True, False])
def test_a_creator_decides_trainable(trainable):
    """``trainable`` becomes the module's parameter's ``requires_grad``, either way."""
    with tc.creator_scope(changed(trainable=trainable)):
        module = Own(requires_grad=not trainable)
    assert module.w.requires_grad is trainable
    assert module.w is module.made[0]


def test_the_object_is_kept_when_a_creator_sets_its_value():
    """A creator's value is put into the module's own parameter object."""
    with tc.creator_scope(constant(2.0)):
        module = Own()
    assert module.w is module.made[0]
    assert module.w.note == "mine"
    assert module.w.tolist() == [[2.0] * 3] * 2


# Conversion


MODULES = {
    "linear": lambda **to: nn.Linear(4, 3, **to),
    "conv": lambda **to: nn.Conv2d(2, 3, 3, **to),
    "norm": lambda **to: nn.LayerNorm(4, **to),
    "embedding": lambda **to: nn.Embedding(5, 4, padding_idx=1, **to),
    "attention": lambda **to: nn.MultiheadAttention(4, 2, **to),
    "lstm": lambda **to: nn.LSTM(3, 2, num_layers=2, **to),
    "transformer": lambda **to: nn.TransformerEncoderLayer(4, 2, 8, **to),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_a_changed_dtype_is_the_modules_own_initialisation_in_it(make, dtype):
    """A creator that changes ``dtype`` gives, bit for bit, what the module makes in that dtype."""
    torch.manual_seed(1)
    expected = make(dtype=dtype)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    with tc.creator_scope(changed(dtype=dtype)):
        converted = make()
    assert torch.equal(torch.get_rng_state(), state)
    assert converted.state_dict().keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert converted.state_dict()[name].dtype == value.dtype
        assert torch.equal(converted.state_dict()[name], value), name


def test_conversion_pins_nothing():
    """After a conversion no dispatch mode is active: the module writes freely."""
    with tc.creator_scope(changed(dtype=torch.float64)):
        layer = nn.Linear(2, 3)
        assert _private.dispatch_stack_depth() == 0
    assert layer.weight.dtype == torch.float64
    assert tc.spec_of(layer.weight).dtype == torch.float64


def test_a_changed_device_is_where_the_parameter_is():
    """A creator that changes ``device`` gives what the module makes on that device."""
    with tc.creator_scope(changed(device="meta")):
        layer = nn.Linear(2, 3)
    assert {p.device.type for p in layer.parameters()} == {"meta"}
    assert {p.requires_grad for p in layer.parameters()} == {True}
    assert all(tc.spec_of(p) for p in layer.parameters())


def test_a_meta_module_is_made_real_by_its_creator():
    """A parameter that its module made on meta can be moved to a device that holds values."""
    with tc.creator_scope(changed(device="cpu")):
        layer = nn.LayerNorm(3, device="meta")
    assert layer.weight.tolist() == [1.0, 1.0, 1.0]
    assert layer.bias.tolist() == [0.0, 0.0, 0.0]


def test_an_integer_dtype_freezes():
    """A parameter that becomes integer cannot have a gradient, and does not."""
    with tc.creator_scope(changed(dtype=torch.int64)):
        module = nn.LayerNorm(3)
    assert module.weight.dtype == torch.int64
    assert not module.weight.requires_grad
    assert module.weight.tolist() == [1, 1, 1]


# Values


def test_a_creators_value_sticks():
    """The constructor's own initialisation does not overwrite a value that a creator set."""
    with tc.creator_scope(constant(7.0)):
        layers = [
            nn.Linear(2, 3),
            nn.LayerNorm(3),
            nn.LSTM(2, 2),
            nn.Embedding(3, 2, padding_idx=0),
        ]
    for layer in layers:
        for name, parameter in layer.named_parameters():
            assert (parameter == 7.0).all(), (layer, name)


def test_a_lazy_value_is_made_for_its_parameter():
    """A callable without arguments is called once for each parameter."""

    def normal(next_creator, **kwargs):
        kwargs["initial_value"] = lambda: torch.arange(float(kwargs["shape"].numel())).view(
            kwargs["shape"]
        )
        return next_creator(**kwargs)

    with tc.creator_scope(normal):
        layer = nn.Linear(2, 2)
    assert layer.weight.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert layer.bias.tolist() == [0.0, 1.0]


def test_a_value_that_changes_the_dtype_too_sticks():
    """Value and dtype may both be the creator's."""

    def creator(next_creator, **kwargs):
        value = torch.full(kwargs["shape"], 0.5, dtype=torch.bfloat16)
        return next_creator(**{**kwargs, "dtype": torch.bfloat16, "initial_value": value})

    with tc.creator_scope(creator):
        layer = nn.Linear(2, 2)
    assert layer.weight.dtype == torch.bfloat16
    assert (layer.weight == 0.5).all()


def test_a_value_on_another_device_is_a_new_object():
    """A meta module's parameter cannot take a real value in place; it is replaced."""
    with tc.creator_scope(changed(device="cpu")), tc.creator_scope(constant(3.0)):
        layer = nn.Linear(2, 2, device="meta")
    assert type(layer.weight) is nn.Parameter
    assert layer.weight.tolist() == [[3.0, 3.0]] * 2
    assert tc.spec_of(layer.weight).shape == (2, 2)


def test_a_returned_parameter_sticks():
    """A parameter of the creator's own is what the module holds, and is not initialised."""
    given = {}

    def creator(next_creator, **kwargs):
        given[kwargs["name"]] = nn.Parameter(torch.full(kwargs["shape"], 4.0))
        return given[kwargs["name"]]

    with tc.creator_scope(creator):
        layer = nn.Linear(2, 3)
    assert layer.weight is given["weight"]
    assert layer.bias is given["bias"]
    assert all((p == 4.0).all() for p in layer.parameters())
    assert tc.spec_of(layer.weight) is None  # nobody declared it


def test_a_shared_parameter_is_one():
    """A creator that returns one parameter for a name ties modules that never met."""
    shared = {}

    def share(next_creator, **kwargs):
        if kwargs["name"] not in shared:
            shared[kwargs["name"]] = next_creator(**kwargs)
        return shared[kwargs["name"]]

    with tc.creator_scope(changed(tags={"shared": True})), tc.creator_scope(share):
        first = nn.Linear(2, 2)
        value = first.weight.detach().clone()
        second = nn.Linear(2, 2)
    assert second.weight is first.weight
    assert torch.equal(first.weight, value)
    assert tc.spec_of(second.weight).tags == {"shared": True}


def test_a_variable_made_instead_sticks_with_its_spec():
    """A creator may answer with a variable of its own; its declaration becomes the module's."""

    def creator(next_creator, **kwargs):
        if kwargs["module"] is None:
            return next_creator(**kwargs)
        return tc.variable(torch.full(kwargs["shape"], 2.0), name="mine", constraint="non_neg")

    with tc.creator_scope(creator):
        layer = nn.Linear(2, 2)
    assert (layer.weight == 2.0).all()
    assert tc.spec_of(layer.weight).constraint is not None


# What exists already


def test_a_tied_parameter_is_made_once(ledger):
    """Assigning another module's parameter makes nothing, and its spec is found by both."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Embedding(4, 3)
            self.decoder = nn.Linear(3, 4, bias=False)
            self.decoder.weight = self.encoder.weight

    with tc.creator_scope(ledger), tc.creator_scope(changed(constraint="non_neg")):
        model = Tied()
    assert ledger.names == ["Embedding.weight", "Linear.weight"]
    assert model.decoder.weight is model.encoder.weight
    assert [name for name, _, _ in tc.named_specs(model)] == ["encoder.weight"]
    assert [name for name, _, _ in tc.named_specs(model.decoder)] == ["weight"]


def test_parameters_from_before_the_scope_are_left():
    """A module made before the scope, and parameters taken from it, are not made again."""
    before = nn.Linear(2, 2)
    weight, value = before.weight, before.weight.detach().clone()
    with tc.creator_scope(constant(9.0)):
        model = nn.Sequential(before, nn.Linear(2, 2))
        model[1].weight = before.weight
        moved = nn.ParameterList(before.parameters())
    assert before.weight is weight
    assert model[1].weight is weight
    assert moved[0] is weight
    assert torch.equal(weight, value)
    assert (model[1].bias == 9.0).all()


def test_a_free_parameter_from_before_the_scope_is_made():
    """A parameter that no module held before is first registered inside the scope."""
    free = nn.Parameter(torch.ones(2))
    module = nn.Module()
    with tc.creator_scope(changed(trainable=False)):
        module.w = free
    assert module.w is free
    assert not free.requires_grad


@pytest.mark.parametrize("walked", [False, True], ids=["before-the-walk", "after-the-walk"])
def test_registering_again_makes_nothing(ledger, walked):
    """A module that registers its own parameter once more, or under a second name, makes none."""
    with tc.creator_scope(ledger):
        if walked:
            nn.LSTM(1, 1)
            ledger.calls.clear()
        layer = nn.Linear(2, 3, bias=False)
        layer.weight = layer.weight
        layer.register_parameter("alias", layer.weight)
        layer.register_parameter("weight", layer.weight)
    assert ledger.names == ["Linear.weight"]
    assert layer.alias is layer.weight


def test_a_deep_copys_parameter_is_not_made(ledger):
    """Copies never pass creators, also where their parameter is then assigned elsewhere."""
    with tc.creator_scope(ledger):
        nn.LSTM(1, 1)  # the one walk over live modules happens here
        first = nn.Linear(2, 2)
        copied = copy.deepcopy(first)
        ledger.calls.clear()
        first.weight = copied.weight
    assert ledger.names == []
    assert first.weight is copied.weight


def test_a_variable_in_a_constructor_is_made_once(ledger):
    """A parameter that `variable` made is not made again when its module registers it."""

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = tc.variable([1.0], name="gain")

    with tc.creator_scope(ledger):
        module = Scale()
    assert [call["name"] for call in ledger.calls] == ["gain"]
    assert tc.spec_of(module.gain).name == "gain"


def test_loading_by_assignment_makes_nothing(ledger):
    """``load_state_dict(assign=True)`` in a scope brings parameters, and the specs stay."""
    with tc.creator_scope(changed(constraint="non_neg")):
        model = nn.Sequential(nn.Linear(2, 3), nn.LSTM(3, 2), nn.BatchNorm1d(2))
    state = {name: torch.full_like(value, 3) for name, value in model.state_dict().items()}
    before = dict(model.named_parameters())
    with tc.creator_scope(ledger), tc.creator_scope(constant(1.0)):
        model.load_state_dict(state, assign=True)
    assert ledger.names == []
    assert all((p == 3.0).all() for p in model.parameters())
    assert not any(p is before[name] for name, p in model.named_parameters())
    assert len(list(tc.named_specs(model))) == len(before)


def test_pruning_makes_nothing(ledger):
    """What torch.nn.utils registers in a finished module is what the module holds already."""
    layer = nn.Linear(2, 3)
    value = layer.weight.detach().clone()
    with tc.creator_scope(ledger), tc.creator_scope(constant(0.0)):
        prune.l1_unstructured(layer, "weight", amount=0)
        prune.remove(layer, "weight")
    assert ledger.names == []
    assert torch.equal(layer.weight, value)


def legacy_weight_norm(module, name):
    """The older weight_norm, which torch has deprecated but kept."""
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(module, name)


REPARAMETRISATIONS = {
    "weight_norm": (parametrizations.weight_norm, parametrize.remove_parametrizations),
    "spectral_norm": (parametrizations.spectral_norm, parametrize.remove_parametrizations),
    "orthogonal": (parametrizations.orthogonal, parametrize.remove_parametrizations),
    "legacy-weight_norm": (legacy_weight_norm, nn.utils.remove_weight_norm),
    "legacy-spectral_norm": (nn.utils.spectral_norm, nn.utils.remove_spectral_norm),
}


@pytest.mark.parametrize(("apply", "remove"), REPARAMETRISATIONS.values(), ids=REPARAMETRISATIONS)
@pytest.mark.parametrize(
    ("kind", "name"), [(nn.Linear, "weight"), (nn.RNN, "weight_hh_l0")], ids=["linear", "rnn"]
)
def test_reparametrising_makes_nothing(ledger, kind, name, apply, remove):
    """Neither the pieces of a normalised weight nor the weight that comes back pass creators."""
    module = kind(3, 3)
    with tc.creator_scope(ledger), tc.creator_scope(constant(0.0)):
        apply(module, name)
        assert name not in dict(module.named_parameters())
        remove(module, name)
    assert ledger.names == []
    assert getattr(module, name).abs().sum() > 0


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
@pytest.mark.parametrize(
    "apply", [r[0] for r in REPARAMETRISATIONS.values()], ids=REPARAMETRISATIONS
)
def test_the_pieces_of_a_weight_have_its_policies(apply, inside):
    """An original keeps the whole spec; the parts of a weight keep all but its constraint."""
    with tc.creator_scope(changed(aggregation="sum", constraint="non_neg", tags={"lr": 2})):
        layer = nn.Linear(3, 3, bias=False)
        if inside:
            apply(layer, "weight")
    if not inside:
        apply(layer, "weight")
    whole = "weight_norm" not in getattr(apply, "__name__", "")
    pieces = list(layer.parameters())
    assert len(list(tc.named_specs(layer))) == len(pieces) == (1 if whole else 2)
    for piece in pieces:
        spec = tc.spec_of(piece)
        assert spec.aggregation is tc.VariableAggregation.SUM
        assert spec.tags == {"lr": 2}
        assert (spec.constraint is not None) is whole


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_an_unflattened_export_makes_nothing(ledger):
    """The modules that torch.export makes of a graph hold what the exported module held."""
    model = nn.Sequential(nn.Linear(2, 2))
    exported = torch.export.export(model, (torch.ones(1, 2),))
    with tc.creator_scope(ledger), tc.creator_scope(constant(0.0)):
        again = torch.export.unflatten(exported)
    assert ledger.calls == []
    assert torch.equal(again(torch.ones(1, 2)), model(torch.ones(1, 2)))


def test_fusing_makes_nothing(ledger):
    """A fused module holds values computed from those of its parts, whatever creators say."""
    convolution, norm = nn.Conv2d(1, 2, 1).eval(), nn.BatchNorm2d(2).eval()
    with tc.creator_scope(ledger), tc.creator_scope(constant(0.0)):
        fused = nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)
    assert ledger.calls == []
    assert fused.weight.abs().sum() > 0


def test_copies_never_pass_creators(ledger):
    """Of a TransformerEncoder's twelve layers the prototype passes; the copies have its specs."""
    with tc.creator_scope(ledger), tc.creator_scope(changed(aggregation="sum", trainable=False)):
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        encoder = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
    assert len(ledger.calls) == 12
    specs = {name: spec for name, _, spec in tc.named_specs(encoder)}
    assert len(specs) == 144
    assert {spec.aggregation for spec in specs.values()} == {tc.VariableAggregation.SUM}
    assert {p.requires_grad for p in encoder.parameters()} == {False}
    for name, p, spec in tc.named_specs(layer):
        assert p is not encoder.get_parameter(f"layers.11.{name}")
        assert specs[f"layers.11.{name}"] == spec


def test_a_subclass_of_parameter_is_adopted():
    """A module whose parameters are of a class of its own keeps them, valued or not."""

    class Mine(nn.Parameter):
        pass

    class Special(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = Mine(torch.zeros(2))
            self.v = Mine(torch.zeros(2))
            nn.init.ones_(self.w)

    with tc.creator_scope(changed(aggregation="sum")):
        module = Special()
    assert type(module.w) is Mine
    assert module.w.tolist() == [1.0, 1.0]
    with tc.creator_scope(constant(5.0)):
        module = Special()
    assert type(module.w) is Mine
    assert module.w.tolist() == [5.0, 5.0]


# Lazy parameters


def test_a_lazy_parameter_is_made_at_registration(ledger):
    """Creators run when a lazy parameter is registered, without shape, and never again."""
    with tc.creator_scope(ledger), tc.creator_scope(changed(aggregation="sum")):
        layer = nn.LazyLinear(3)
        seen = ledger.calls[-2:]  # LazyLinear registers an empty weight before the lazy one
        ledger.calls.clear()
        layer(torch.ones(1, 2))
    assert [call["name"] for call in seen] == ["weight", "bias"]
    assert [call["shape"] for call in seen] == [None, None]
    assert [call["validate_shape"] for call in seen] == [False, False]
    assert ledger.calls == []
    assert tc.spec_of(layer.weight).shape is None
    assert tc.spec_of(layer.weight).aggregation is tc.VariableAggregation.SUM


def test_a_lazy_module_initialises_itself_as_ever():
    """Policies on a lazy module change nothing of what its first forward makes."""
    torch.manual_seed(3)
    expected = nn.LazyLinear(3)
    expected(torch.ones(1, 2))
    torch.manual_seed(3)
    with tc.creator_scope(changed(constraint="non_neg")):
        layer = nn.LazyLinear(3)
    layer(torch.ones(1, 2))
    assert torch.equal(layer.weight, expected.weight)
    assert type(layer.weight) is nn.Parameter


def test_a_lazy_parameter_takes_dtype_and_trainable():
    """A creator may change the dtype of a lazy parameter, and freeze it."""
    with tc.creator_scope(changed(dtype=torch.float64, trainable=False)):
        layer = nn.LazyLinear(3)
    layer(torch.ones(1, 2, dtype=torch.float64))
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    assert {p.requires_grad for p in layer.parameters()} == {False}


def test_a_lazy_parameter_cannot_have_a_value():
    """A value for a parameter without shape is an error that says when it gets one."""

    def creator(next_creator, **kwargs):
        return next_creator(**{**kwargs, "initial_value": 1.0})

    with (
        tc.creator_scope(creator),
        pytest.raises(ValueError, match=r"LazyBatchNorm1d.*(\n.*)*shape is not known"),
    ):
        nn.LazyBatchNorm1d()


# Wrong answers


@pytest.mark.parametrize("answer", [torch.zeros(3, 2), "weight"], ids=["tensor", "text"])
def test_a_module_is_given_nothing_but_parameters(answer):
    """What is no nn.Parameter is refused; the error names the module and its parameter."""
    with (
        tc.creator_scope(lambda next_creator, **kwargs: answer),
        pytest.raises(TypeError, match=r"for Linear\.weight"),
    ):
        nn.Linear(2, 3)


def test_none_is_refused():
    """A creator that forgets to return is told which line it lacks."""
    with (
        tc.creator_scope(lambda next_creator, **kwargs: None),
        pytest.raises(TypeError, match=r"'weight'(.*\n)*.*return next_creator\(\*\*kwargs\)"),
    ):
        nn.Linear(2, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": (3, 3)},
        {"initial_value": torch.zeros(4), "shape": None},
        {"initial_value": lambda: torch.zeros(4), "shape": None},
    ],
    ids=["declared", "value", "callable"],
)
def test_another_shape_is_refused(changes):
    """A module's forward relies on the shapes it chose: expected and actual are shown."""
    with (
        tc.creator_scope(changed(**changes)),
        pytest.raises(
            ValueError, match=r"Linear\.weight(.*\n)+.*expected: \(3, 2\)\n.*actual: +\(\d"
        ),
    ):
        nn.Linear(2, 3)


def test_a_value_of_another_shape_than_declared_is_refused():
    """A value is never broadcast to the module's shape."""
    with (
        tc.creator_scope(changed(initial_value=torch.zeros(1))),
        pytest.raises(
            ValueError, match=r"Linear\.weight(.*\n)+.*expected: \(3, 2\)\n.*actual: +\(1,\)"
        ),
    ):
        nn.Linear(2, 3)


def test_calling_next_creator_twice_needs_a_value():
    """A module waits for one parameter: a second one is a variable like any other."""
    made = []

    def twice(next_creator, **kwargs):
        first = next_creator(**kwargs)
        made.append(next_creator(**{**kwargs, "initial_value": torch.zeros(kwargs["shape"])}))
        return first

    with tc.creator_scope(twice):
        module = Own()
    assert module.w is module.made[0]
    assert made[0] is not module.w
    assert tc.spec_of(made[0]).name == "w"

    def valueless(next_creator, **kwargs):
        next_creator(**kwargs)
        return next_creator(**kwargs)

    with (
        tc.creator_scope(valueless),
        pytest.raises(ValueError, match=r"Own\.w(.*\n)*.*holds once for each parameter"),
    ):
        Own()


def test_a_creator_may_try_again():
    """After an error from ``next_creator`` the module's parameter still waits."""

    def patient(next_creator, **kwargs):
        with pytest.raises(ValueError, match=r"Own\.w"):
            next_creator(**{**kwargs, "shape": (9,)})
        with pytest.raises(ValueError, match="unknown-device"):
            next_creator(**{**kwargs, "device": "unknown-device"})
        return next_creator(**kwargs)

    with tc.creator_scope(patient):
        module = Own()
    assert module.w is module.made[0]
    assert tc.spec_of(module.w).name == "w"


def test_a_creator_may_make_other_variables_meanwhile():
    """What a creator makes beside a module's parameter does not take its place."""
    beside = []

    def creator(next_creator, **kwargs):
        if kwargs["module"] is not None and not beside:
            beside.append(None)
            beside[0] = tc.variable([1.0, 2.0], name="beside")
            beside.append(nn.Linear(1, 1))
        return next_creator(**kwargs)

    with tc.creator_scope(creator):
        module = Own()
    assert module.w is module.made[0]
    assert beside[0].tolist() == [1.0, 2.0]
    assert beside[1].weight.shape == (1, 1)


def test_a_creator_may_make_other_variables_of_the_same_module():
    """Another variable that names the same module as its owner does not take its parameter."""
    beside = []

    def creator(next_creator, **kwargs):
        if kwargs["module"] is not None and not beside:
            beside.append(None)
            beside[0] = tc.variable(5.0, name="average", module=kwargs["module"])
        return next_creator(**kwargs)

    with tc.creator_scope(creator):
        module = Own()
    assert module.w is module.made[0]
    assert beside[0].item() == 5.0
    assert beside[0] is not module.w


def test_a_creator_may_rename_a_modules_parameter(creator_scopes):
    """The spec has the creator's name; the module keeps its own, its object and its values."""

    def prefixed(next_creator, **kwargs):
        return next_creator(**{**kwargs, "name": f"encoder/{kwargs['name']}"})

    creator_scopes(prefixed)
    module = Own()
    assert module.w is module.made[0]
    assert dict(module.named_parameters()).keys() == {"w"}
    assert tc.spec_of(module.w).name == "encoder/w"


def test_a_constraint_that_is_not_defined_for_a_parameter_is_refused_at_once():
    """A ready-made constraint is held against shape and dtype where it is declared."""
    with (
        tc.creator_scope(changed(constraint=tc.constraints.Symmetric())),
        pytest.raises(TypeError, match=r"Symmetric\(\).*'Linear\.weight'.*\(3, 2\)"),
    ):
        nn.Linear(2, 3)
    with pytest.raises(TypeError, match=r"NonNeg\(\).*'spectrum'.*complex64"):
        tc.variable(torch.zeros(2, dtype=torch.complex64), name="spectrum", constraint="non_neg")


def test_a_creator_that_makes_modules_for_ever_is_told():
    """A module in a creator runs the whole chain again; the error says what to call instead."""

    def again(next_creator, **kwargs):
        return nn.Linear(1, 1).weight

    with (
        tc.creator_scope(again),
        pytest.raises(RecursionError, match=r"again made variables for ever(.*\n)*.*next_creator"),
    ):
        nn.Linear(1, 1)
    assert tc.spec_of(nn.Linear(1, 1).weight) is None


def test_an_exception_leaves_no_trace(ledger):
    """After a creator raised, modules are made as ever, inside the scope and after it."""

    def raising(next_creator, **kwargs):
        if kwargs["name"] == "bias":
            raise LookupError("no bias today")
        return next_creator(**kwargs)

    with tc.creator_scope(ledger):
        with tc.creator_scope(raising), pytest.raises(LookupError, match="today"):
            nn.Linear(2, 3)
        nn.Linear(2, 3)
    assert ledger.names == ["Linear.weight", "Linear.weight", "Linear.bias"]
    nn.Linear(2, 3)
    assert len(ledger.calls) == 3


# Scopes that leave modules alone


def test_modules_false_leaves_stock_modules_alone(ledger):
    """With ``modules=False`` only variables pass, also those made in a constructor."""

    class Scale(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.gain = tc.variable([1.0], name="gain")

    with tc.creator_scope(ledger, modules=False):
        module = Scale()
    assert [call["name"] for call in ledger.calls] == ["gain"]
    assert tc.spec_of(module.weight) is None
    assert tc.spec_of(module.gain).name == "gain"


@pytest.mark.parametrize(
    ("nesting", "modules_see", "variables_see"),
    [
        ([True, False], [0], [1, 0]),
        ([False, True], [1], [1, 0]),
        ([True, False, True], [2, 0], [2, 1, 0]),
        ([False, True, False], [1], [2, 1, 0]),
        ([False, False], [], [1, 0]),
        ([True, True], [1, 0], [1, 0]),
    ],
    ids=lambda value: "".join("FT"[v] if isinstance(v, bool) else str(v) for v in value),
)
def test_scopes_of_both_kinds_nest(nesting, modules_see, variables_see):
    """Stock modules pass exactly the scopes that want them, innermost first; variables pass all."""
    log = []

    def marking(mark):
        def creator(next_creator, **kwargs):
            log.append((mark, kwargs["name"]))
            return next_creator(**kwargs)

        return creator

    scopes = [tc.creator_scope(marking(i), modules=m) for i, m in enumerate(nesting)]
    for scope in scopes:
        scope.__enter__()
    Own()
    tc.variable(1.0, name="v")
    for scope in reversed(scopes):
        scope.__exit__(None, None, None)
    assert [mark for mark, name in log if name == "w"] == modules_see
    assert [mark for mark, name in log if name == "v"] == variables_see


# What else torch registers


def test_compiling_in_a_scope_makes_nothing(ledger):
    """torch.compile registers parameters on modules of its own; those are not made again."""
    with tc.creator_scope(ledger), tc.creator_scope(constant(2.0)):
        model = nn.Sequential(nn.Linear(2, 2))
        ledger.calls.clear()
        compiled = torch.compile(model, backend=CompileCounter())
        result = compiled(torch.ones(1, 2))
    assert ledger.calls == []
    assert result.tolist() == [[6.0, 6.0]]


def test_a_scope_does_not_keep_a_model_from_being_compiled():
    """A model whose values a scope protects is compiled in it, and once only."""
    counter = CompileCounter()
    with tc.creator_scope(constant(2.0)):
        model = torch.compile(nn.Sequential(nn.Linear(2, 2)), backend=counter)
        model(torch.ones(1, 2))
        assert counter.frame_count == 1
    assert model(torch.ones(1, 2)).tolist() == [[6.0, 6.0]]
    assert counter.frame_count == 1


def test_tracing_in_a_scope_makes_nothing(ledger):
    """A module that torch.fx traced holds the parameters of the module it traced."""
    with tc.creator_scope(ledger), tc.creator_scope(constant(2.0)):
        model = nn.Sequential(nn.Linear(2, 2))
        ledger.calls.clear()
        traced = torch.fx.symbolic_trace(model)
        copied = torch.fx.GraphModule(model, torch.fx.Tracer().trace(model))
    assert ledger.calls == []
    assert dict(traced.named_parameters())["0.weight"] is model[0].weight
    assert torch.equal(copied(torch.ones(1, 2)), traced(torch.ones(1, 2)))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_module_with_specs_can_be_scripted(tmp_path):
    """torch.jit.script takes a module that has specs, saves it, and computes the same."""
    with tc.creator_scope(constant(2.0)), tc.creator_scope(changed(constraint="non_neg")):
        model = nn.Sequential(nn.Linear(2, 2))
    scripted = torch.jit.script(model)
    torch.jit.save(scripted, tmp_path / "scripted.pt")
    loaded = torch.jit.load(tmp_path / "scripted.pt")
    assert loaded(torch.ones(1, 2)).tolist() == [[6.0, 6.0]]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_module_does_not_mislead_the_walk(ledger):
    """A script module makes its tensors as they are asked for; none of them holds a parameter."""
    scripted = torch.jit.script(nn.LSTM(4, 4))
    with tc.creator_scope(ledger):
        for _ in range(20):
            nn.LSTM(1, 1, bias=False)
    assert len(ledger.calls) == 40
    assert len(list(scripted.parameters())) == 4


def test_a_converted_module_is_not_made_again(ledger):
    """``.to``, ``to_empty`` and ``functional_call`` in a scope create nothing."""
    with tc.creator_scope(ledger):
        layer = nn.Linear(2, 2)
        ledger.calls.clear()
        layer.to(torch.float64).half().float()
        torch.func.functional_call(layer, {"weight": torch.zeros(2, 2)}, torch.ones(1, 2))
        layer.to_empty(device="meta")
    assert ledger.calls == []
    assert len(list(tc.named_specs(layer))) == 2


# Threads, and afterwards


def test_other_threads_see_nothing(ledger):
    """A module made in another thread, while a scope is open here, does not pass it."""
    made = []

    def work():
        made.append(nn.Linear(2, 2))

    with tc.creator_scope(ledger), tc.creator_scope(constant(5.0)):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert ledger.calls == []
    assert tc.spec_of(made[0].weight) is None
    assert not (made[0].weight == 5.0).any()


def test_threads_with_scopes_of_their_own_do_not_meet():
    """Each thread's modules pass its own scope only, all at the same time."""
    barrier = threading.Barrier(4)
    wrong = []

    def work(value):
        barrier.wait()
        for _ in range(20):
            with tc.creator_scope(constant(value)):
                layer = nn.Linear(2, 2)
            if not all((p == value).all() for p in layer.parameters()):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(float(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nothing_remains_after_the_scope():
    """No mode, hook or pin outlives the scope: constructors write to its parameters again."""
    from torch.nn.modules.module import _global_parameter_registration_hooks as hooks

    count = len(hooks)
    with tc.creator_scope(constant(5.0)):
        layer = nn.Linear(2, 2)
        assert _private.dispatch_stack_depth() == 1
    assert _private.dispatch_stack_depth() == 0
    assert len(hooks) == count

    class Filling(nn.Module):
        def __init__(self):
            super().__init__()
            nn.init.zeros_(layer.weight)

    Filling()
    assert (layer.weight == 0.0).all()


def test_a_scope_keeps_nothing_alive():
    """Parameters, modules and creators are freed once the user lets go of them."""
    from torchcreator import _table

    gc.collect()
    tables = len(_table._live)

    def creator(next_creator, **kwargs):
        kwargs["initial_value"] = torch.zeros(kwargs["shape"])
        return next_creator(**kwargs)

    import weakref

    watched = weakref.ref(creator)
    with tc.creator_scope(creator):
        layers = [nn.LSTM(2, 2), nn.Linear(2, 2)]
        storage = weakref.ref(layers[1].weight.untyped_storage())
    del creator, layers
    gc.collect()
    assert watched() is None
    assert storage() is None
    assert len(_table._live) == tables
