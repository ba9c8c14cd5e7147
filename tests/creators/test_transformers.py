"""Checkpoints that transformers wrote are loaded unchanged."""

from __future__ import annotations

import pytest
import torch

import torchcreator as tc
from torchcreator import build
from torchcreator.creators import from_checkpoint

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own deprecations

SMALL = {
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 20},
    "Llama": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 50,
    },
    "Bert": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 50,
    },
}
HEADS = {"GPT2": "GPT2LMHeadModel", "Llama": "LlamaForCausalLM", "Bert": "BertForMaskedLM"}


@pytest.mark.parametrize("shard_size", ["5GB", "5KB"], ids=["one file", "shards"])
@pytest.mark.parametrize("name", SMALL)
def test_a_saved_model_is_loaded_unchanged(name, shard_size, tmp_path):
    """Every value, tie and output is that of the model which ``save_pretrained`` wrote."""
    config = getattr(transformers, f"{name}Config")(**SMALL[name])
    kind = getattr(transformers, HEADS[name])
    torch.manual_seed(5)
    saved = kind(config).eval()
    saved.save_pretrained(tmp_path, max_shard_size=shard_size)
    torch.manual_seed(6)
    with tc.creator_scope(from_checkpoint(tmp_path)):
        loaded = build(kind, config, seed=0).eval()
    expected = saved.state_dict()
    assert list(loaded.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    ties = loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    assert ties is (saved.get_output_embeddings().weight is saved.get_input_embeddings().weight)
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(loaded(tokens).logits, saved(tokens).logits)
