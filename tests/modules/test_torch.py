"""What else torch registers in a scope."""

from __future__ import annotations

import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

import torchcreator as tc
from tests.modules.creators import changed, constant
from tests.support import torchscript


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
    torch.compiler.reset()  # what other tests compiled of `nn.Sequential` counts against its limit
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


def test_a_module_with_specs_can_be_scripted(tmp_path):
    """torch.jit.script takes a module that has specs, saves it, and computes the same."""
    with tc.creator_scope(constant(2.0)), tc.creator_scope(changed(constraint="non_neg")):
        model = nn.Sequential(nn.Linear(2, 2))
    loaded = torchscript.reloaded(torchscript.script(model), tmp_path / "scripted.pt")
    assert loaded(torch.ones(1, 2)).tolist() == [[6.0, 6.0]]


def test_a_scripted_module_does_not_mislead_the_walk(ledger):
    """A script module makes its tensors as they are asked for; none of them holds a parameter."""
    scripted = torchscript.script(nn.LSTM(4, 4))
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
