"""Every architecture of transformers and many of timm; a sample of them where nothing is said.

``TORCHCREATOR_EVERY_ARCHITECTURE=1 python -m pytest tests/build/test_every_architecture.py`` tries
all that construct from a small configuration.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from tests.build.same import assert_same_model
from tests.build.torture import STARTS
from torchcreator._build.build import build

os.environ.setdefault("HF_HUB_OFFLINE", "1")
EVERY = os.environ.get("TORCHCREATOR_EVERY_ARCHITECTURE") == "1"
LARGEST = 30_000_000  # parameters
SMALL: dict[str, Any] = {
    **dict.fromkeys(["hidden_size", "d_model", "n_embd", "embed_dim", "dim"], 32),
    **dict.fromkeys(["num_hidden_layers", "encoder_layers", "decoder_layers", "n_layer"], 2),
    **dict.fromkeys(["num_layers", "n_layers", "num_encoder_layers", "num_decoder_layers"], 2),
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "num_heads"], 4),
    **dict.fromkeys(["encoder_attention_heads", "decoder_attention_heads"], 4),
    **dict.fromkeys(["intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_dim"], 48),
    **dict.fromkeys(["d_ff", "n_inner", "hidden_dim", "moe_intermediate_size"], 48),
    **dict.fromkeys(["num_experts", "num_local_experts", "n_routed_experts"], 4),
    "num_key_value_heads": 2,
    "head_dim": 8,
    "d_kv": 8,
    "vocab_size": 99,
    "image_size": 32,
    "patch_size": 8,
    "pad_token_id": 0,
    "num_experts_per_tok": 2,
}
TIMM = [
    *("resnet18", "resnetv2_50", "regnetx_002", "efficientnet_b0", "mobilenetv3_small_050"),
    *("vit_tiny_patch16_224", "deit_tiny_patch16_224", "swin_tiny_patch4_window7_224"),
    *("convnext_atto", "mixer_s32_224", "gmlp_ti16_224", "cait_xxs24_224", "densenet121"),
    *("dla34", "dpn48b", "ghostnet_050", "hrnet_w18_small", "mobilevit_xxs", "edgenext_xx_small"),
    *("beit_base_patch16_224", "crossvit_tiny_240", "coat_lite_tiny", "levit_128s", "xception41"),
    *("poolformer_s12", "maxvit_rmlp_pico_rw_256", "tnt_s_patch16_224", "repvgg_a0", "volo_d1_224"),
]


def kinds():
    """Return the names of transformers' models, or of a sample of them."""
    try:
        from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES
    except ImportError:
        return []
    names = sorted(MODEL_MAPPING_NAMES)
    return names if EVERY else names[::40]


def small(config_class):
    """Return a configuration, small in what it calls as most do."""
    names = {**vars(config_class), **getattr(config_class, "__dataclass_fields__", {})}
    ours = getattr(config_class, "attribute_map", {})
    chosen = {}
    for name, value in SMALL.items():
        if name in names or name in ours or hasattr(config_class, name):
            chosen[name] = value
    return config_class(**chosen)


def constructed(factory):
    """Return what a factory makes from a state of the generator, or skip the test."""
    STARTS["a normal value waits"]()
    try:
        return factory(), torch.get_rng_state()
    except Exception as error:
        pytest.skip(f"no plain construction: {type(error).__name__}: {str(error)[:80]}")


def assert_all_ways(factory):
    """Assert that a model is the plain one, drawn in one thread and cut for two."""
    plain, after = constructed(factory)
    STARTS["a normal value waits"]()
    assert_same_model(build(factory), plain)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("kind", kinds())
def test_transformers(kind, number, threads, request):
    """An architecture of transformers, in one thread and cut for two, is the plain one."""
    transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed")
    transformers.logging.set_verbosity_error()
    threads(number)
    if number > 1:
        request.getfixturevalue("cut")
    try:
        config = small(transformers.CONFIG_MAPPING[kind])
        with torch.device("meta"):
            size = sum(p.numel() for p in transformers.AutoModel.from_config(config).parameters())
    except Exception as error:
        pytest.skip(f"no small one: {type(error).__name__}: {str(error)[:80]}")
    if size > LARGEST:
        pytest.skip(f"{size} parameters are too many")
    assert_all_ways(lambda: transformers.AutoModel.from_config(config))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("name", TIMM if EVERY else TIMM[::10])
def test_timm(name, number, threads, request):
    """An architecture of timm, in one thread and cut for two, is the plain one."""
    timm: Any = pytest.importorskip("timm", reason="timm is not installed")
    threads(number)
    if number > 1:
        request.getfixturevalue("cut")
    assert_all_ways(lambda: timm.create_model(name, pretrained=False))
