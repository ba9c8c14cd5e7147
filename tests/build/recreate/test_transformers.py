"""Models of transformers, as `from_pretrained` returns them, pass every kind of creator."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import pytest
import torch

import torchcreator as tc
from tests.creators.test_transformers import SMALL
from torchcreator import creators

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own deprecations

TOKENS = torch.tensor([[1, 2, 3]])
HEADS = {"GPT2": "GPT2LMHeadModel", "Llama": "LlamaForCausalLM"}


@pytest.fixture(scope="module", params=HEADS)
def saved(request, tmp_path_factory):
    """The class of a small model, and where it is saved."""
    config = getattr(transformers, f"{request.param}Config")(**SMALL[request.param])
    kind = getattr(transformers, HEADS[request.param])
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp(request.param)
    kind(config).save_pretrained(path)
    return kind, path


@pytest.fixture
def model(saved):
    """A model that comes from somewhere."""
    kind, path = saved
    return kind.from_pretrained(path).eval()


def example(name):
    path = Path(__file__).parents[3] / "examples" / "creators" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recreated(model, *chain):
    with tc.creator_scope(*chain):
        return tc.recreate(model)


def test_policies_change_nothing_else(model):
    """Freezing, constraints, aggregation, options and a record: objects and outputs stay."""
    before, outputs = dict(model.named_parameters()), model(TOKENS).logits
    ledger = creators.Ledger()
    recreated(
        model,
        creators.record(ledger),
        creators.freeze(name="*embed*.weight", strict=False),
        creators.freeze(name="*.wte.weight", strict=False),
        creators.constrain("max_norm", name="*.mlp.*", when=lambda shape, **_: len(shape) == 2),
        creators.aggregate("sum", name="*.0.*"),
        creators.local(name="*.1.*"),
        creators.optimizer(weight_decay=0.0, when=lambda shape, **_: len(shape) == 1),
    )
    assert {name for name, p in model.named_parameters() if p is not before[name]} == set()
    assert torch.equal(model(TOKENS).logits, outputs)
    assert ledger.names == list(before)
    specs = {name: spec for name, _, spec in tc.named_specs(model)}
    assert list(specs) == list(before)
    assert not model.get_input_embeddings().weight.requires_grad
    assert {n for n, s in specs.items() if s.aggregation == "sum"} == {
        n for n in specs if ".0." in n
    }
    assert {n for n, s in specs.items() if s.synchronization == "none"} == {
        n for n in specs if ".1." in n
    }
    constrained = {n for n, s in specs.items() if s.constraint is not None}
    assert constrained == {n for n, p in before.items() if ".mlp." in n and p.ndim == 2}
    groups = tc.param_groups(model, optimizer=torch.optim.AdamW, weight_decay=0.1)
    assert [{p.ndim for p in g["params"]} for g in groups] == [{2}, {1}]
    optimizer = torch.optim.AdamW(groups, lr=10.0)
    model(TOKENS, labels=TOKENS).loss.backward()
    optimizer.step()
    for name in constrained:
        assert (before[name].norm(dim=0) <= 2.0 + 1e-5).all() or (
            before[name].norm(dim=-1) <= 2.0 + 1e-5
        ).all()


def test_other_forms_are_torchs_own(model):
    """`cast` gives what `model.to` gives; ties stay; the model runs and trains."""
    plain = copy.deepcopy(model).to(torch.bfloat16)
    recreated(model, creators.cast(torch.bfloat16))
    assert torch.equal(model(TOKENS).logits, plain(TOKENS).logits)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied is (plain.get_output_embeddings().weight is plain.get_input_embeddings().weight)
    model(TOKENS, labels=TOKENS).loss.backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.bfloat16}


def test_a_checkpoint_is_loaded_into_it(saved, model):
    """From the files, and from a mapping: each value is the file's, in the memory there was."""
    _, path = saved
    plain = copy.deepcopy(model)
    memory = {name: p.data_ptr() for name, p in model.named_parameters()}
    for source in (path, plain.state_dict()):
        recreated(model, creators.initialize(torch.nn.init.zeros_))
        recreated(model, creators.from_checkpoint(source))
        assert torch.equal(model(TOKENS).logits, plain(TOKENS).logits)
        assert {name: p.data_ptr() for name, p in model.named_parameters()} == memory


def test_on_meta_it_has_no_memory(model):
    """`on`, and values again."""
    plain = copy.deepcopy(model)
    recreated(model, creators.on("meta"))
    assert all(p.is_meta for p in model.parameters())
    recreated(model, creators.on("cpu"), creators.from_checkpoint(plain.state_dict()))
    assert torch.equal(model(TOKENS).logits, plain(TOKENS).logits)


def test_low_rank_updates(model):
    """LoRA on some layers: the same outputs, and only what it adds is trained."""
    outputs = model(TOKENS).logits
    name = "lm_head.weight" if isinstance(model, transformers.GPT2LMHeadModel) else "*.q_proj.*"
    if isinstance(model, transformers.GPT2LMHeadModel):  # tied: it passes as the embedding's
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    recreated(model, example("lora").lora(rank=2, name=name))
    assert torch.equal(model(TOKENS).logits, outputs)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n.rpartition(".")[2] for n in trained} == {"lora_a", "lora_b"}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(TOKENS, labels=TOKENS).loss.backward()
    optimizer.step()
    assert not torch.equal(model(TOKENS).logits, outputs)


def test_eight_bits(model):
    """The quantising example on every matrix, embeddings and ties too."""
    outputs = model(TOKENS).logits
    port = example("quantised")
    recreated(model, port.eight_bits)
    port.quantised(model)
    assert {p.dtype for p in model.parameters() if p.ndim == 2} == {torch.int8}
    torch.testing.assert_close(model(TOKENS).logits, outputs, atol=0.02, rtol=0)
