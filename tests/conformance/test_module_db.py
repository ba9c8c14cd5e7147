"""Every module of torch's own test table, made in a scope and made plainly."""

from __future__ import annotations

import contextlib
import functools
import sys
import textwrap
import warnings

import pytest
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.testing._internal.common_modules import module_db

import torchcreator as tc

EXCLUDED: dict[str, str] = {}
"""Modules left out of the sweep, each with the reason."""

SWEPT = [info for info in module_db if info.name not in EXCLUDED]

BESIDE = {
    "nn.AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 12, [3, 6]),
    "nn.EmbeddingBag": lambda: nn.EmbeddingBag(5, 3, padding_idx=1),
    "nn.LazyBatchNorm1d": nn.LazyBatchNorm1d,
    "nn.LazyBatchNorm2d": nn.LazyBatchNorm2d,
    "nn.LazyBatchNorm3d": nn.LazyBatchNorm3d,
    "nn.LazyInstanceNorm1d": lambda: nn.LazyInstanceNorm1d(affine=True),
    "nn.LazyInstanceNorm2d": lambda: nn.LazyInstanceNorm2d(affine=True),
    "nn.LazyInstanceNorm3d": lambda: nn.LazyInstanceNorm3d(affine=True),
    "nn.LazyLinear": lambda: nn.LazyLinear(3),
    "nn.ParameterDict": lambda: nn.ParameterDict({"a": torch.ones(2)}),
    "nn.ParameterList": lambda: nn.ParameterList([torch.ones(2), nn.Parameter(torch.ones(1))]),
    "nn.RNNBase": lambda: nn.RNNBase("LSTM", 2, 3, num_layers=2, bidirectional=True, proj_size=1),
    "nn.SyncBatchNorm": lambda: nn.SyncBatchNorm(3),
    "nn.TransformerDecoder": lambda: nn.TransformerDecoder(
        nn.TransformerDecoderLayer(4, 2, 8), num_layers=2, norm=nn.LayerNorm(4)
    ),
}
"""Modules of `torch.nn` with parameters that torch's table lacks."""

WITHOUT_PARAMETERS = (
    "AlphaDropout ChannelShuffle Container CosineSimilarity CrossMapLRN2d DataParallel Dropout "
    "Dropout1d Dropout2d Dropout3d FeatureAlphaDropout Flatten Fold Hardsigmoid Identity "
    "MaxUnpool1d MaxUnpool2d MaxUnpool3d Module ModuleDict ModuleList NLLLoss2d PairwiseDistance "
    "PixelShuffle PixelUnshuffle RReLU Sequential TripletMarginLoss TripletMarginWithDistanceLoss "
    "Unflatten Unfold Upsample UpsamplingBilinear2d UpsamplingNearest2d"
)
"""Modules of `torch.nn` outside torch's table that make no parameter of their own."""

UNINITIALISED = {"RNNCellBase"}
"""A base that leaves its parameters as the memory was; the cells made of it are in the table."""


@pytest.fixture(autouse=True)
def in_double_precision():
    """Torch's table is written for tests that run with this default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def cases(info, training):
    """Return what torch's table makes this module with, and calls it with."""
    torch.manual_seed(5)
    with quiet():
        inputs = info.module_inputs_func(
            info, device="cpu", dtype=torch.float64, requires_grad=False, training=training
        )
        return list(inputs)


@contextlib.contextmanager
def quiet():
    """Let torch warn of its own deprecated arguments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def maker(info, case):
    """Return what makes a module of the table."""
    given = case.constructor_input
    return functools.partial(info.module_cls, *given.args, **given.kwargs)


def made(make):
    """Make a module from a fixed state of the generator; return it and the state afterwards."""
    torch.manual_seed(7)
    with quiet():
        module = make()
    return module, torch.get_rng_state()


def result(module, arguments):
    """Call a module from a fixed state of the generator."""
    torch.manual_seed(9)
    with quiet():
        return module(*arguments.args, **arguments.kwargs)


def identity(next_creator, **kwargs):
    """Change nothing."""
    return next_creator(**kwargs)


def constant(next_creator, **kwargs):
    """Give every parameter whose shape is known one value."""
    if kwargs["shape"] is not None:
        kwargs["initial_value"] = torch.full(kwargs["shape"], 0.25, dtype=kwargs["dtype"])
    return next_creator(**kwargs)


def described(parameter):
    """Return what a parameter is, apart from its values."""
    shape = None if is_lazy(parameter) else (parameter.shape, parameter.stride())
    return type(parameter), shape, parameter.dtype, parameter.device, parameter.requires_grad


def assert_equal_modules(actual, expected):
    """Assert that two modules hold the same parameters and buffers, bit for bit."""
    names = [name for name, _ in expected.named_parameters(remove_duplicate=False)]
    assert [name for name, _ in actual.named_parameters(remove_duplicate=False)] == names
    for (name, p), q in zip(actual.named_parameters(), expected.parameters(), strict=True):
        assert described(p) == described(q), name
        assert is_lazy(p) or torch.equal(p, q), name
    buffers = dict(expected.named_buffers())
    assert dict(actual.named_buffers()).keys() == buffers.keys()
    for name, buffer in actual.named_buffers():
        assert is_lazy(buffer) or torch.equal(buffer, buffers[name]), name


def sweep(test):
    """Run a test on every module of the table."""
    return pytest.mark.parametrize("info", SWEPT, ids=[info.name for info in SWEPT])(test)


@sweep
def test_an_identity_scope_changes_nothing(info):
    """In an identity scope a module is bit for bit what it is outside, generator included."""
    for training in {True, not info.train_and_eval_differ}:
        plain, scoped = cases(info, training), cases(info, training)
        expected = [made(maker(info, case)) for case in plain]
        with tc.creator_scope(identity):
            actual = [made(maker(info, case)) for case in scoped]
        for (module, state), (plain_module, plain_state) in zip(actual, expected, strict=True):
            assert torch.equal(state, plain_state)
            assert_equal_modules(module, plain_module)
        for i, ((module, _), (plain_module, _)) in enumerate(zip(actual, expected, strict=True)):
            torch.testing.assert_close(
                result(module.train(training), scoped[i].forward_input),
                result(plain_module.train(training), plain[i].forward_input),
                rtol=0,
                atol=0,
                equal_nan=True,
            )
            assert_equal_modules(module, plain_module)  # lazy ones have values now


def unlike_the_constant(module):
    """Return the names of parameters that do not hold the constant; lazy ones hold nothing."""
    return [n for n, p in module.named_parameters() if not is_lazy(p) and not (p == 0.25).all()]


@sweep
def test_a_constant_creator_reaches_every_parameter(info):
    """Every parameter holds the creator's value, but copies of a layer that existed before."""
    inputs = cases(info, True)
    with tc.creator_scope(constant):
        modules = [made(maker(info, case))[0] for case in inputs]
    for module, case in zip(modules, inputs, strict=True):
        other = unlike_the_constant(module)
        if info.module_cls is not nn.TransformerEncoder:
            assert other == []
            assert len(list(tc.named_specs(module))) == len(list(module.parameters()))
            continue
        # Its constructor is handed a layer, made before the scope, and copies it.
        prototype = dict(case.constructor_input.args[0].named_parameters())
        copies = [f"layers.{i}.{n}" for i in range(len(module.layers)) for n in prototype]
        assert set(other) <= set(copies)
        for name in copies:
            assert torch.equal(module.get_parameter(name), prototype[name.split(".", 2)[2]])


@pytest.mark.parametrize("make", BESIDE.values(), ids=BESIDE)
def test_modules_beside_the_table_are_made_alike(make):
    """Modules with parameters that torch's table lacks keep the same two laws."""
    expected, state = made(make)
    with tc.creator_scope(identity):
        module, scoped_state = made(make)
    assert torch.equal(scoped_state, state)
    assert_equal_modules(module, expected)
    with tc.creator_scope(constant):
        module, _ = made(make)
    assert unlike_the_constant(module) == []
    assert list(module.parameters())


def test_the_sweep_is_the_whole_table(capsys):
    """The modules swept are all of torch's table, and with those beside it all of `torch.nn`."""
    ways = {info.name: len(cases(info, True)) for info in SWEPT}
    lines = [", ".join(f"{name} ({count})" for name, count in ways.items())]
    lines += [f"{name} is left out: {reason}" for name, reason in EXCLUDED.items()]
    with capsys.disabled():
        sys.stdout.write(f"\n{len(ways)} modules, made in {sum(ways.values())} ways:\n")
        sys.stdout.write("\n".join(textwrap.fill(line, 100) for line in lines) + "\n")
    assert {info.name for info in SWEPT} | EXCLUDED.keys() == {info.name for info in module_db}
    assert all(EXCLUDED.values())
    public = {
        name
        for name, value in vars(nn).items()
        if isinstance(value, type) and issubclass(value, nn.Module)
    }
    swept = {info.module_cls.__name__ for info in module_db}
    swept |= {name.removeprefix("nn.") for name in BESIDE}
    assert public - swept == set(WITHOUT_PARAMETERS.split()) | UNINITIALISED
