"""What is started: a small model, a Llama of 893 MiB, DeepSeek-V3."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Embedded(nn.Module):
    """528 MiB: an embedding and a matrix."""

    def __init__(self, rows: int = 1 << 20, width: int = 2048) -> None:
        super().__init__()
        self.embed = nn.Embedding(rows, 128)
        self.linear = nn.Linear(width, width)


def llama() -> nn.Module:
    """Return a Llama of 12 layers of 1,024, with tied embeddings: 893 MiB."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {"hidden_size": 1024, "intermediate_size": 4096, "vocab_size": 32_000}
    layers: dict[str, Any] = {"num_hidden_layers": 12, "num_attention_heads": 16}
    return LlamaForCausalLM(LlamaConfig(**sizes, **layers, tie_word_embeddings=True))


def deepseek() -> nn.Module:
    """Return DeepSeek-V3 in bfloat16: 671 billion parameters."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        return DeepseekV3ForCausalLM(DeepseekV3Config())
    finally:
        torch.set_default_dtype(before)
