"""A small project: classify documents with a transformer, part of it frozen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertModel

CLASSES = 5


class Classifier(nn.Module):
    """BERT of the usual size, and a head on the mean of what it says of each token."""

    def __init__(self, frozen_layers: int = 0) -> None:
        super().__init__()
        self.encoder = BertModel(BertConfig(), add_pooling_layer=False)
        self.head = nn.Linear(self.encoder.config.hidden_size, CLASSES)
        for part in (self.encoder.embeddings, *self.encoder.encoder.layer[:frozen_layers]):
            if frozen_layers:
                part.requires_grad_(False)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return the logits of each document, (documents, classes).

        Args:
            tokens: Token numbers, (documents, tokens).
            mask: 1 where a token counts, 0 where it fills up; None means that all count.
        """
        mask = torch.ones_like(tokens) if mask is None else mask
        states = self.encoder(tokens, attention_mask=mask).last_hidden_state
        weights = mask[..., None] / mask.sum(1)[:, None, None]
        logits: torch.Tensor = self.head((states * weights).sum(1))
        return logits


def parameter_groups(
    model: Classifier, *, rate: float = 2e-5, decay: float = 0.01, layer_decay: float = 0.9
) -> Iterator[dict[str, Any]]:
    """Yield a group of options for each trained parameter: lower layers learn more slowly."""
    layers = len(model.encoder.encoder.layer)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        depth = 0 if ".embeddings." in name else layers
        if ".layer." in name:
            depth = int(name.split(".layer.")[1].split(".")[0])
        yield {
            "params": [parameter],
            "lr": rate * layer_decay ** (layers - depth),
            "weight_decay": 0.0 if parameter.dim() < 2 else decay,
        }
