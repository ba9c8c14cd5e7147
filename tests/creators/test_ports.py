"""Creators from the wild do here what they did where they come from."""

from __future__ import annotations

import copy
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import build

EXAMPLES = Path(__file__).parents[2] / "examples"
CREATORS = sorted(path.stem for path in (EXAMPLES / "creators").glob("*.py"))
PORTS = sorted(path.stem for path in (EXAMPLES / "ports").glob("*.py"))


def example(name):
    (path,) = EXAMPLES.glob(f"*/{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_seven():
    """Each port has a test below."""
    assert len(PORTS) == 7
    tested = {name.removeprefix("test_port_") for name in globals() if name.startswith("test_port")}
    assert tested == set(PORTS)


@pytest.mark.slow
def test_they_run_as_scripts():
    """Each file is a program, too, that shows something."""
    code = "import runpy, sys\nfor path in sys.argv[1:]: runpy.run_path(path, run_name='__main__')"
    paths = [str(path) for path in EXAMPLES.glob("*/*.py") if path.stem in PORTS + CREATORS]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") >= len(paths)
    for shown in (
        "recreate 0.lora_a, 0.lora_b\n",
        "25% of the memory, outputs within 0.01\n",
        "width 256: 0.weight 0.00100, 0.bias 0.00100, 2.weight 0.00025, 2.bias 0.00100\n",
    ):
        assert shown in done.stdout


def test_port_replica_local():
    """Sonnet: what asks for nothing becomes each replica's own, and is trained."""
    layer, loss = example("replica_local").make()
    for parameter in layer.parameters():
        spec = tc.spec_of(parameter)
        assert spec.synchronization is tc.VariableSynchronization.ON_READ
        assert spec.aggregation is tc.VariableAggregation.ONLY_FIRST_REPLICA
        assert spec.trainable
    assert tc.spec_of(loss).synchronization is tc.VariableSynchronization.ON_WRITE


def test_port_functional_substitution():
    """TFF: the model computes with the tensors it was given, and initialises none of them."""
    port = example("functional_substitution")
    model = port.clone_with([torch.eye(2), torch.ones(2)], lambda: nn.Linear(2, 2))
    assert model(torch.tensor([[1.0, 2.0]])).tolist() == [[2.0, 3.0]]
    with pytest.raises(ValueError, match=r"weight: \(3,\) is not"):
        port.clone_with([torch.ones(3)], lambda: nn.Linear(2, 2))


def test_port_track_and_forbid():
    """RLlib: a variable that is not registered is found, and one in a forward pass is refused."""
    port = example("track_and_forbid")

    class Forgetful(nn.Module):
        def __init__(self):
            super().__init__()
            self.kept = nn.Linear(2, 2)
            self.hidden = [nn.Linear(2, 3, bias=False)]

        def forward(self, x):
            return tc.variable(torch.ones(2), name="late") * x

    with pytest.raises(ValueError, match=r"still using variables of shapes \[\(3, 2\)\]"):
        port.checked_model(Forgetful)
    with pytest.raises(ValueError, match="during model initialization: late"):
        port.compute_actions(Forgetful(), torch.ones(2))
    assert port.compute_actions(port.checked_model(lambda: nn.Linear(2, 3)), torch.ones(2)).ndim


def test_port_frozen_copy():
    """slippi-ai: the copy has the student's values, and none of them is trained."""
    student = nn.Linear(2, 3)
    teacher = example("frozen_copy").teacher_of(lambda: nn.Linear(2, 3), student)
    assert torch.equal(teacher.weight, student.weight)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())


def test_port_initial_from_checkpoint():
    """VGGish: values are found by name, and the variables are listed."""
    values = {"0.weight": torch.ones(1, 2), "0.bias": torch.zeros(1)}
    factory = lambda: nn.Sequential(nn.Linear(2, 1))  # noqa: E731
    model, variables = example("initial_from_checkpoint").restored(factory, values)
    assert model(torch.ones(1, 2)).item() == 2.0
    assert [id(v) for v in variables] == [id(p) for p in model.parameters()]


def test_port_partitioned_embedding():
    """The rows are spread, the first shards take the rest, and a lookup is the whole table's."""
    port = example("partitioned_embedding")
    with tc.creator_scope(port.partitioned(3)):
        table = tc.variable(nn.init.normal_, shape=(10, 4), name="table")
        layer = nn.Linear(4, 10)
    assert [tuple(shard.shape) for shard in table.shards] == [(4, 4), (3, 4), (3, 4)]
    assert tc.spec_of(table.shards[2]).name == "table/part_2"
    rows = torch.tensor([[0, 9], [4, 3]])
    assert torch.equal(table.lookup(rows), torch.cat(list(table.shards))[rows])
    assert layer.weight.shape == (10, 4)


def test_port_lazy_variables():
    """Nothing is made before it is asked for, and the object stays the same."""
    table, scope = example("lazy_variables").make(3)
    assert table.is_meta
    scope.initialize_all()
    assert table.tolist() == [[1.0] * 4] * 3
    assert isinstance(table, nn.Parameter)


def layers():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))


def in_a_scope(creator, factory):
    with tc.creator_scope(creator):
        return factory()


def in_a_build(creator, factory):
    with tc.creator_scope(creator):
        return build(factory)


def deferred(creator, factory):
    model = tc.defer(factory)
    with tc.creator_scope(creator):
        return tc.materialize(model)


def finished(creator, factory):
    model = factory()
    with tc.creator_scope(creator):
        return tc.recreate(model)


MOMENTS = {"scope": in_a_scope, "build": in_a_build, "defer": deferred, "recreate": finished}


@pytest.mark.parametrize("moment", MOMENTS)
def test_lora_trains_the_update_alone(moment):
    """In every moment: at first the adapted model is the model; then only what it adds moves."""
    torch.manual_seed(1)
    plain = layers()
    lora = example("lora").lora(rank=2)
    model = MOMENTS[moment](lora, layers)
    x = torch.randn(3, 6)
    model.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(model(x), plain(x))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert sorted(trained) == ["0.lora_a", "0.lora_b", "2.lora_a", "2.lora_b"]
    assert model[0].lora_a.shape == (2, 6)
    assert model[0].lora_b.shape == (5, 2)
    twin = copy.deepcopy(model)
    model(x).square().sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert not torch.equal(model(x), plain(x))
    assert torch.equal(twin(x), plain(x))
    assert torch.equal(model[0].weight, plain[0].weight)


@pytest.mark.parametrize("moment", ["build", "recreate"])
def test_lora_adapts_what_it_is_asked_to(moment):
    """The others are frozen, and creators further out are asked about the update."""
    lora = example("lora").lora(rank=2, name="2.*")
    ledger, cast = tc.creators.Ledger(), tc.creators.cast(torch.float64)
    if moment == "build":
        with tc.creator_scope(tc.creators.record(ledger), cast, lora):
            model = build(layers)
    else:
        model = layers()
        with tc.creator_scope(tc.creators.record(ledger), cast, lora):
            tc.recreate(model)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained == ["2.lora_a", "2.lora_b"]
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    added = ["2.lora_a", "2.lora_b"]
    assert ledger.names == ["0.weight", "0.bias", "2.weight", *added, "2.bias"]


def test_a_failing_lora_adds_nothing():
    """A finished model that could be adapted in part only is what it was."""
    lora = example("lora").lora(rank=2)
    model = layers()
    x = torch.randn(3, 6)
    before, names = model(x), list(model.state_dict())

    def fails(next_creator, **kwargs):
        assert kwargs["name"] != "2.lora_b"
        return next_creator(**kwargs)

    with tc.creator_scope(fails, lora), pytest.raises(AssertionError):
        tc.recreate(model)
    assert list(model.state_dict()) == names
    assert torch.equal(model(x), before)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("moment", ["build", "defer", "recreate"])
def test_quantised_weights_are_eight_bits(moment):
    """Each weight is within half a level of what it was, in a byte."""
    port = example("quantised")
    torch.manual_seed(0)
    whole = nn.Linear(20, 5)
    torch.manual_seed(0)
    model = port.quantised(MOMENTS[moment](port.eight_bits, lambda: nn.Linear(20, 5)))
    levels = model.parametrizations.weight.original
    assert levels.dtype == torch.int8
    error = (model.weight - whole.weight).abs()
    assert (error <= model.parametrizations.weight[0].scale / 2 + 1e-7).all()
    x = torch.randn(2, 20)
    torch.testing.assert_close(model(x), whole(x), atol=0.05, rtol=0)


def test_mup_scales_the_learning_rate_with_the_width():
    """Hidden matrices learn at 1 / width of the base; the output begins at zero."""
    port = example("mup")
    creators = port.mup(lr=0.1, base_width=4, first="0.weight", last="4.weight")
    with tc.creator_scope(*creators):
        model = build(
            lambda: nn.Sequential(
                *(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
            )
        )
    rates = {
        id(p): group["lr"] for group in tc.param_groups(model, lr=0.1) for p in group["params"]
    }
    assert [rates[id(p)] for p in model.parameters()] == [0.1, 0.1, 0.1 / 4, 0.1, 0.1 / 4, 0.1]
    assert (model[4].weight == 0).all()
    assert (model[2].weight != 0).all()


@pytest.mark.parametrize("name", ["lora", "quantised", "mup"])
def test_each_creator_is_short(name):
    """LoRA, quantisation and muP take less than forty lines of code each, before they are shown."""
    (path,) = EXAMPLES.glob(f"*/{name}.py")
    body = re.split(r"def (?:model|main)\(", path.read_text().split('"""', 2)[2])[0]
    code = [row for row in body.splitlines() if row.strip() and "import" not in row]
    assert len(code) < 40
