"""Transformers architectures, built from small configurations: nothing here was written for us."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from tests.build.same import assert_builds_same

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed")
transformers.logging.set_verbosity_error()

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 99,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED = {**SMALL, "num_key_value_heads": 2}
SEQ2SEQ = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "vocab_size": 99,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": 2,
}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99, "n_positions": 32}
IMAGES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 16,
    "patch_size": 8,
}
SPEECH = {
    **SMALL,
    "conv_dim": (8, 8),
    "conv_stride": (5, 2),
    "conv_kernel": (10, 3),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


def tokens():
    return {"input_ids": torch.arange(3, 11).reshape(1, 8)}


def pixels(size=16):
    return {"pixel_values": torch.linspace(-1, 1, 3 * size * size).reshape(1, 3, size, size)}


def sound():
    return {"input_values": torch.linspace(-1, 1, 400).reshape(1, 400)}


def seq2seq():
    return {**tokens(), "decoder_input_ids": torch.arange(3, 7).reshape(1, 4)}


def both():
    return {**tokens(), **pixels()}


def mel():
    return {
        "input_features": torch.linspace(-1, 1, 320).reshape(1, 8, 40),
        "decoder_input_ids": torch.arange(3, 7).reshape(1, 4),
    }


ARCHITECTURES = {
    # encoders
    "Bert": ("BertForMaskedLM", SMALL, tokens),
    "Roberta": ("RobertaForMaskedLM", SMALL, tokens),
    "DistilBert": (
        "DistilBertForMaskedLM",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "vocab_size": 99},
        tokens,
    ),
    "Albert": ("AlbertForMaskedLM", {**SMALL, "embedding_size": 16}, tokens),
    "Electra": ("ElectraForMaskedLM", {**SMALL, "embedding_size": 16}, tokens),
    "DebertaV2": ("DebertaV2ForMaskedLM", SMALL, tokens),
    # decoders
    "GPT2": ("GPT2LMHeadModel", GPT, tokens),
    "Llama": ("LlamaForCausalLM", GROUPED, tokens),
    "Mistral": ("MistralForCausalLM", GROUPED, tokens),
    "Qwen2": ("Qwen2ForCausalLM", GROUPED, tokens),
    "Gemma2": ("Gemma2ForCausalLM", {**GROUPED, "head_dim": 8}, tokens),
    "Phi3": ("Phi3ForCausalLM", GROUPED, tokens),
    "Falcon": ("FalconForCausalLM", SMALL, tokens),
    "Bloom": (
        "BloomForCausalLM",
        {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99},
        tokens,
    ),
    "OPT": ("OPTForCausalLM", {**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32}, tokens),
    "GPTNeoX": ("GPTNeoXForCausalLM", SMALL, tokens),
    "XLNet": (
        "XLNetLMHeadModel",
        {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48, "vocab_size": 99},
        tokens,
    ),
    # encoder-decoders
    "T5": (
        "T5ForConditionalGeneration",
        {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 99},
        seq2seq,
    ),
    "Bart": ("BartForConditionalGeneration", SEQ2SEQ, seq2seq),
    "Pegasus": ("PegasusForConditionalGeneration", SEQ2SEQ, seq2seq),
    # mixtures of experts
    "Mixtral": ("MixtralForCausalLM", {**GROUPED, "num_local_experts": 4}, tokens),
    "Qwen3Moe": (
        "Qwen3MoeForCausalLM",
        {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
        tokens,
    ),
    # vision
    "ViT": ("ViTForImageClassification", IMAGES, pixels),
    "Beit": (
        "BeitForImageClassification",
        {
            **IMAGES,
            "use_relative_position_bias": True,
            "use_mask_token": True,
            "use_absolute_position_embeddings": True,
        },
        pixels,
    ),
    "Swin": (
        "SwinForImageClassification",
        {
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "image_size": 32,
            "patch_size": 4,
            "window_size": 4,
        },
        lambda: pixels(32),
    ),
    "ConvNext": (
        "ConvNextForImageClassification",
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
        pixels,
    ),
    "ResNet": (
        "ResNetForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
        lambda: pixels(32),
    ),
    "Segformer": (
        "SegformerForImageClassification",
        {
            "num_encoder_blocks": 2,
            "depths": [1, 1],
            "sr_ratios": [2, 1],
            "hidden_sizes": [8, 16],
            "patch_sizes": [7, 3],
            "strides": [4, 2],
            "num_attention_heads": [1, 2],
            "mlp_ratios": [2, 2],
        },
        lambda: pixels(32),
    ),
    "CLIP": ("CLIPModel", {"text_config": SMALL, "vision_config": IMAGES}, both),
    # speech
    "Wav2Vec2": ("Wav2Vec2ForCTC", SPEECH, sound),
    "Hubert": ("HubertModel", SPEECH, sound),
    "Whisper": (
        "WhisperForConditionalGeneration",
        {
            **SEQ2SEQ,
            "num_mel_bins": 8,
            "max_source_positions": 20,
            "max_target_positions": 20,
            "suppress_tokens": None,
            "begin_suppress_tokens": None,
        },
        mel,
    ),
    # state spaces
    "Mamba": ("MambaForCausalLM", {**SMALL, "state_size": 8}, tokens),
    "Mamba2": (
        "Mamba2ForCausalLM",
        {**SMALL, "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 2},
        tokens,
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture(name, threads, cut):
    """Built in threads, it equals its plain construction: values, ties, generator, forward."""
    threads(2)
    model_class, options, inputs = ARCHITECTURES[name]
    config = getattr(transformers, f"{name}Config")(**options)

    def factory():
        return getattr(transformers, model_class)(config).eval()

    built, plain = assert_builds_same(factory)
    with torch.no_grad():
        ours, theirs = built(**inputs()), plain(**inputs())
    first = next(iter(ours))
    assert torch.equal(ours[first], theirs[first])
