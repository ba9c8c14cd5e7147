"""The models that are built, deferred and loaded. GPT-2 and Llama need transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks._measure import DEVICE
from benchmarks._peers import peer

Factory = Callable[[], nn.Module]


def linears() -> nn.Module:
    """Make 300 tiny layers: all of the time is Python's."""
    return nn.Sequential(*(nn.Linear(16, 16) for _ in range(300)))


def gpt2() -> nn.Module:
    """Make GPT-2 small."""
    transformers = peer("transformers")
    model: nn.Module = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    return model


def llama() -> nn.Module:
    """Make a Llama of 12 layers of 768."""
    return llama_of(llama_config())


def llama_1b() -> nn.Module:
    """Make a Llama of about a billion parameters."""
    return llama_of(llama_config(hidden_size=2048, layers=18, intermediate_size=5632))


def llama_of(config: Any) -> nn.Module:
    """Make a Llama as it is configured."""
    model: nn.Module = peer("transformers").LlamaForCausalLM(config)
    return model


def llama_config(
    *,
    hidden_size: int = 768,
    layers: int = 12,
    intermediate_size: int = 2048,
    vocab_size: int = 32000,
) -> Any:
    """Return the configuration of a Llama."""
    return peer("transformers").LlamaConfig(
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 64,
        num_key_value_heads=hidden_size // 64,
        vocab_size=vocab_size,
    )


def vit() -> nn.Module:
    """Make a ViT of the base size."""
    transformers = peer("transformers")
    model: nn.Module = transformers.ViTModel(transformers.ViTConfig())
    return model


def wide() -> nn.Module:
    """Make 24 large layers, in which nothing is drawn twice."""
    return nn.Sequential(*(nn.Linear(2048, 2048) for _ in range(24)))


def embedding() -> nn.Module:
    """Make one embedding of 2 GiB."""
    return nn.Embedding(1 << 19, 1 << 10)


def twice() -> nn.Module:
    """Make layers that are initialised twice, as most libraries do."""
    layers = [nn.Linear(2048, 2048) for _ in range(12)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.02)
    return nn.Sequential(*layers)


def placed(factory: Factory) -> Factory:
    """Return the factory under the device that is measured."""
    if DEVICE.type == "cpu":
        return factory

    def on_device() -> nn.Module:
        with DEVICE:
            return factory()

    return on_device


def on_meta(factory: Factory) -> nn.Module:
    """Construct on the meta device, as one would without this library."""
    with torch.device("meta"):
        return factory()
