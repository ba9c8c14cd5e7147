"""How others start a sharded model: FSDP2, torch's distributed checkpoint, transformers."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from benchmarks._start_steps import Phases, phases, sharded


def fsdp2(make: Callable[[], nn.Module], **options: Any) -> tuple[Phases, nn.Module]:
    """FSDP2's own start: on meta, sharded, emptied, and initialised by each rank for itself.

    With one seed on all ranks their shards are equal; with a seed for each, values depend on the
    number of ranks.
    """

    def on_meta(_: object) -> nn.Module:
        with torch.device("meta"):
            return make()

    def draw(model: nn.Module) -> nn.Module:
        model.to_empty(device="cpu")
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                assert isinstance(parameter, DTensor)
                parameter.to_local().normal_(0, 0.02)
        return model

    return phases(("record", on_meta), ("shard", partial(sharded, **options)), ("draw", draw))


def dcp(make: Callable[[], nn.Module], folder: str) -> tuple[Phases, nn.Module]:
    """Shard on meta, and let torch's distributed checkpoint read what this rank needs."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    def on_meta(_: object) -> nn.Module:
        with torch.device("meta"):
            return make()

    def read(model: nn.Module) -> nn.Module:
        model.to_empty(device="cpu")
        state = {name: value for name, value in model.state_dict().items() if "lm_head" not in name}
        load(state, storage_reader=HuggingFaceStorageReader(folder), no_dist=True)
        return model

    return phases(("record", on_meta), ("shard", sharded), ("read", read))


def transformers_own(folder: str) -> tuple[Phases, nn.Module]:
    """Let transformers shard on read, which it does for its own models."""
    from transformers import DistributedConfig, LlamaForCausalLM

    ranks = dist.get_world_size()
    os.environ.update(RANK=str(dist.get_rank()), WORLD_SIZE=str(ranks), LOCAL_RANK="0")

    def read(_: object) -> nn.Module:
        config = DistributedConfig(fsdp_size=ranks)
        model: nn.Module = LlamaForCausalLM.from_pretrained(folder, distributed_config=config)
        return model

    return phases(("read", read))
