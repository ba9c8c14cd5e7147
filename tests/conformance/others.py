"""Models of other libraries, each small, by what makes them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

Factory = Callable[[], nn.Module]
Models = Iterator[tuple[str, Factory]]
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


def small(config_class: Any) -> Any:
    """Return a configuration, small in what it calls as most do."""
    names = {**vars(config_class), **getattr(config_class, "__dataclass_fields__", {})}
    ours = getattr(config_class, "attribute_map", {})
    chosen = {}
    for name, value in SMALL.items():
        if name in names or name in ours or hasattr(config_class, name):
            chosen[name] = value
    return config_class(**chosen)


def transformers_models() -> Models:
    """Yield every model class that a configuration is mapped to."""
    import transformers
    from transformers.models.auto import modeling_auto

    transformers.logging.set_verbosity_error()
    pairs = {
        (kind, name)
        for mapping, kinds in vars(modeling_auto).items()
        if mapping.startswith("MODEL_") and mapping.endswith("_MAPPING_NAMES")
        for kind, names in kinds.items()
        for name in ([names] if isinstance(names, str) else names)
    }
    for kind, name in sorted(pairs):
        yield f"{kind} {name}", partial(_transformers, kind, name)


def _transformers(kind: str, name: str) -> nn.Module:
    import transformers

    config = small(transformers.CONFIG_MAPPING[kind])
    _shrink(config)
    made: nn.Module = getattr(transformers, name)(config)
    return made


def _shrink(config: Any) -> None:
    """Make the configurations small that are inside of another one."""
    for inner in [value for value in vars(config).values() if hasattr(value, "to_dict")]:
        for name in SMALL.keys() & vars(inner).keys():
            setattr(inner, name, SMALL[name])
        _shrink(inner)


def timm_models() -> Models:
    """Yield one model of each family, the one with the shortest name."""
    import timm

    for family in timm.list_modules():
        names = sorted(timm.list_models(module=family), key=len)
        if names:
            yield names[0], partial(timm.create_model, names[0], pretrained=False)


def torchvision_models() -> Models:
    """Yield every model, none of it with weights from elsewhere."""
    from torchvision.models import get_model_builder, list_models

    for name in list_models():
        builder = get_model_builder(name)
        known = inspect.signature(builder).parameters
        yield (
            name,
            partial(builder, **dict.fromkeys(known.keys() & {"weights", "weights_backbone"})),
        )


def peft_models() -> Models:
    """Yield each way to adapt a small Llama, by default and with what it can do besides."""
    import peft

    every = {"target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    prompts = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 4}
    for kind, config in peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING.items():
        for options in (every, prompts):
            known = set(inspect.signature(config).parameters)
            if known.issuperset(options):
                yield f"{kind.value} {len(options)}", partial(_adapted, config, options)
    for further in (
        {"init_lora_weights": way} for way in ("gaussian", "pissa", "olora", "orthogonal", False)
    ):
        yield f"LORA {further}", partial(_adapted, peft.LoraConfig, {**every, **further})
    for word in ("use_dora", "use_rslora", "lora_bias"):
        yield f"LORA {word}", partial(_adapted, peft.LoraConfig, {**every, word: True})
    for targets in ("all-linear", ["embed_tokens", "lm_head"]):
        options = {"task_type": "CAUSAL_LM", "target_modules": targets}
        yield f"LORA {targets}", partial(_adapted, peft.LoraConfig, options)


def _adapted(config: Any, options: dict[str, Any]) -> nn.Module:
    import peft
    import transformers

    base = transformers.LlamaForCausalLM(small(transformers.LlamaConfig))
    made: nn.Module = peft.get_peft_model(base, config(**options))
    return made


DIFFUSERS: dict[str, dict[str, Any]] = {
    "UNet2DModel": {"block_out_channels": (32, 64, 64, 64)},
    "UNet2DConditionModel": {"block_out_channels": (32, 64, 64, 64), "cross_attention_dim": 32},
    "UNet1DModel": {"block_out_channels": (32, 32, 64)},
    "UNet3DConditionModel": {"block_out_channels": (32, 64, 64, 64), "cross_attention_dim": 32},
    "UNetMotionModel": {"block_out_channels": (32, 64, 64, 64), "cross_attention_dim": 32},
    "UNetSpatioTemporalConditionModel": {"block_out_channels": (32, 64, 64, 64)},
    "ControlNetModel": {"block_out_channels": (32, 64, 64, 64), "cross_attention_dim": 32},
    "AutoencoderKL": {"block_out_channels": (32, 64)},
    "AutoencoderTiny": {},
    "AutoencoderKLTemporalDecoder": {"block_out_channels": (32,)},
    "AutoencoderOobleck": {"encoder_hidden_size": 16, "decoder_channels": 16},
    "AutoencoderDC": {
        "encoder_block_out_channels": (32, 64),
        "decoder_block_out_channels": (32, 64),
    },
    "ConsistencyDecoderVAE": {},
    "VQModel": {"block_out_channels": (32,)},
    "Transformer2DModel": {"in_channels": 32, "num_attention_heads": 2, "attention_head_dim": 16},
    "TransformerTemporalModel": {"in_channels": 32, "num_attention_heads": 2},
    "DiTTransformer2DModel": {"num_attention_heads": 2, "num_layers": 2, "attention_head_dim": 16},
    "PixArtTransformer2DModel": {"num_attention_heads": 2, "num_layers": 2},
    "SD3Transformer2DModel": {
        "num_layers": 1,
        "num_attention_heads": 2,
        "caption_projection_dim": 128,
    },
    "FluxTransformer2DModel": {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2},
    "AuraFlowTransformer2DModel": {"num_mmdit_layers": 1, "num_single_dit_layers": 1},
    "CogVideoXTransformer3DModel": {"num_attention_heads": 2, "num_layers": 1},
    "LatteTransformer3DModel": {"num_attention_heads": 2, "num_layers": 1},
    "LuminaNextDiT2DModel": {"hidden_size": 64, "num_layers": 1, "num_attention_heads": 2},
    "HunyuanDiT2DModel": {"num_attention_heads": 2, "num_layers": 2, "hidden_size": 64},
    "PriorTransformer": {"num_attention_heads": 2, "num_layers": 2},
    "StableAudioDiTModel": {"num_layers": 1, "num_attention_heads": 2},
    "Kandinsky3UNet": {"block_out_channels": (64, 128)},
    "StableCascadeUNet": {"block_out_channels": ((64, 64)), "num_attention_heads": (0, 4)},
    "T5FilmDecoder": {"num_layers": 1, "d_model": 64},
    "MotionAdapter": {"block_out_channels": (32, 64)},
    "T2IAdapter": {"channels": [32, 64, 64, 64]},
    "UVit2DModel": {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1},
    "SanaTransformer2DModel": {"num_layers": 1, "num_attention_heads": 2},
    "WanTransformer3DModel": {"num_layers": 1, "num_attention_heads": 2},
    "LTXVideoTransformer3DModel": {"num_layers": 1, "num_attention_heads": 2},
    "MochiTransformer3DModel": {"num_layers": 1, "num_attention_heads": 2},
    "AllegroTransformer3DModel": {"num_layers": 1, "num_attention_heads": 2},
}


def diffusers_models() -> Models:
    """Yield the main models, small."""
    for name, options in DIFFUSERS.items():
        yield name, partial(_named, "diffusers", name, options)


def _named(library: str, name: str, options: dict[str, Any]) -> nn.Module:
    made: nn.Module = getattr(importlib.import_module(library), name)(**options)
    return made


GEOMETRIC: dict[str, Any] = {
    **dict.fromkeys(["in_channels", "out_channels", "channels", "hidden_channels"], 8),
    **dict.fromkeys(["num_node_features", "num_features", "embedding_dim", "node_dim"], 8),
    **dict.fromkeys(["num_nodes", "num_relations", "num_layers", "K", "dim", "num_bases"], 3),
    **dict.fromkeys(["kernel_size", "k", "num_types", "num_node_types", "num_edge_types"], 3),
    **dict.fromkeys(["edge_dim", "num_embeddings", "heads", "num_steps", "walk_length"], 2),
    **dict.fromkeys(["alpha", "ratio", "eps"], 0.5),
    "nn": nn.Linear(8, 8),
    "mlp": nn.Linear(8, 8),
    "metadata": (["a", "b"], [("a", "to", "b"), ("b", "to", "a")]),
}


def geometric_modules() -> Models:
    """Yield every module whose arguments are called as most are."""
    import torch_geometric.nn as geometric

    for name, kind in sorted(vars(geometric).items()):
        if isinstance(kind, type) and issubclass(kind, nn.Module):
            yield name, partial(_geometric, kind)


def _geometric(kind: Any) -> nn.Module:
    needed = {
        name: GEOMETRIC[name]
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is parameter.empty and name in GEOMETRIC
    }
    made: nn.Module = kind(**needed)
    return made


ATTENDING = (
    *("rotary_pos_emb", "alibi_pos_bias", "rel_pos_bias", "dynamic_pos_bias", "use_rmsnorm"),
    *("use_scalenorm", "ff_glu", "ff_swish", "ff_relu_squared", "sandwich_norm", "macaron"),
    *("attn_qk_norm", "attn_talking_heads", "attn_one_kv_head", "residual_attn", "gate_residual"),
    *("rotary_xpos", "shift_tokens", "use_simple_rmsnorm", "attn_flash", "attn_gate_values"),
    *("use_adaptive_layernorm", "ff_no_bias", "attn_on_attn", "attn_sparse_topk", "scale_residual"),
)


def x_transformers_models() -> Models:
    """Yield a decoder with each of what it can do, and models of other kinds."""
    import x_transformers as x

    def decoder(**options: Any) -> nn.Module:
        layers = x.Decoder(dim=32, depth=2, heads=4, **options)
        made: nn.Module = x.TransformerWrapper(num_tokens=99, max_seq_len=16, attn_layers=layers)
        return made

    def vision() -> nn.Module:
        layers = x.Encoder(dim=32, depth=2, heads=4)
        made: nn.Module = x.ViTransformerWrapper(image_size=32, patch_size=8, attn_layers=layers)
        return made

    yield "decoder", decoder
    yield "vision", vision
    yield "generating", lambda: x.AutoregressiveWrapper(decoder())
    yield (
        "both",
        lambda: x.XTransformer(
            dim=32,
            enc_num_tokens=99,
            enc_depth=1,
            enc_heads=2,
            enc_max_seq_len=8,
            dec_num_tokens=99,
            dec_depth=1,
            dec_heads=2,
            dec_max_seq_len=8,
        ),
    )
    for word in ATTENDING:
        yield word, partial(decoder, **{word: True})


def e3nn_modules() -> Models:
    """Yield modules that compute constants, and compile code, in their constructors."""
    from e3nn import nn as layers
    from e3nn import o3

    few, many = "4x0e + 2x1o", "3x0e + 2x1o + 1x2e"
    scalars, gates, gated = "4x0e", "2x0e", "2x1o"
    yield "Linear", lambda: o3.Linear(few, many)
    yield "FullTensorProduct", lambda: o3.FullTensorProduct(few, "1x0e + 1x1o")
    yield "FullyConnectedTensorProduct", lambda: o3.FullyConnectedTensorProduct(few, many, few)
    yield "ElementwiseTensorProduct", lambda: o3.ElementwiseTensorProduct(few, few)
    yield "TensorSquare", lambda: o3.TensorSquare(few)
    yield "Norm", lambda: o3.Norm(few)
    yield "SphericalHarmonics", lambda: o3.SphericalHarmonics([0, 1, 2], normalize=True)
    yield "ToS2Grid", lambda: o3.ToS2Grid(2, 8)
    yield "FromS2Grid", lambda: o3.FromS2Grid((8, 9), 2)
    yield "ReducedTensorProducts", lambda: o3.ReducedTensorProducts("ij=ji", i="1x0e + 1x1o")
    yield "Gate", lambda: layers.Gate(scalars, [torch.tanh], gates, [torch.sigmoid], gated)
    yield "BatchNorm", lambda: layers.BatchNorm(few)
    yield "NormActivation", lambda: layers.NormActivation(few, torch.sigmoid)
    yield "FullyConnectedNet", lambda: layers.FullyConnectedNet([4, 8, 2], torch.tanh)
    yield "S2Activation", lambda: layers.S2Activation("1x0e + 1x1o", torch.tanh, 8)
    yield "Activation", lambda: layers.Activation(scalars, [torch.tanh])
    yield "Dropout", lambda: layers.Dropout(few, 0.1)
    yield "Extract", lambda: layers.Extract(few, ["4x0e"], [(0,)])
