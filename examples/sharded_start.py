"""Start a sharded Llama from a checkpoint, and train small updates of it.

The model is recorded, sharded by FSDP2 while it has no memory, and then gets its values: of what
the checkpoint has, this rank's part; and two small matrices beside some layers, which a creator
makes (LoRA, Hu et al., 2021), whole on every rank. They are trained, their gradients averaged, and
all is saved for any number of ranks.

Run it with ``torchrun --standalone --nproc-per-node 2 examples/sharded_start.py``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM
from typing_extensions import Unpack

import torchcreator as tc

CONFIG = LlamaConfig(
    vocab_size=1000,
    hidden_size=64,
    intermediate_size=160,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)


def add_update(layer: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    """Return what a layer returns, and the update times what it was given."""
    update: torch.Tensor = inputs[0] @ layer.lora_a.T @ layer.lora_b.T
    return output + update


def lora(next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]) -> nn.Parameter:
    """Freeze a variable, and let the projections of attention learn an update of rank 4."""
    kwargs["trainable"] = False
    weight = next_creator(**kwargs)
    layer, name = kwargs["module"], str(kwargs["name"])
    if isinstance(layer, nn.Linear) and name.endswith(("q_proj.weight", "v_proj.weight")):
        for local, shape, begin in (
            ("lora_a", (4, layer.in_features), nn.init.kaiming_uniform_),
            ("lora_b", (layer.out_features, 4), nn.init.zeros_),
        ):
            update = next_creator(
                name=name.removesuffix("weight") + local,
                shape=shape,
                initial_value=begin,
                aggregation="mean",
                module=layer,
            )
            layer.register_parameter(local, update)
        layer.register_forward_hook(add_update)
    return weight


def start(checkpoint: Path) -> LlamaForCausalLM:
    """Return the model with its values, sharded."""
    model = tc.defer(LlamaForCausalLM, CONFIG, seed=0)
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    torch.manual_seed(1)  # on every rank: the updates are one value on all of them
    with tc.creator_scope(lora, tc.creators.from_checkpoint(checkpoint)):
        return tc.materialize(model)


def train(model: LlamaForCausalLM, steps: int) -> list[float]:
    """Return the loss of each step, over all ranks."""
    tc.distributed.aggregate_gradients(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.01)
    tokens = torch.randint(1000, (4, 16), generator=torch.Generator().manual_seed(dist.get_rank()))
    losses = []
    for _ in range(steps):
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total = loss.detach()
        dist.all_reduce(total)
        losses.append(total.item() / dist.get_world_size())
    return losses


def main() -> None:
    """Make a checkpoint of several files, start from it, train, and save."""
    dist.init_process_group("gloo")
    with tempfile.TemporaryDirectory() as made:
        shared = [made]
        dist.broadcast_object_list(shared)
        folder = Path(shared[0])
        torch.manual_seed(7)
        plain = LlamaForCausalLM(CONFIG)
        if dist.get_rank() == 0:
            plain.save_pretrained(folder / "llama", max_shard_size="100KB")
        dist.barrier()
        model = start(folder / "llama")
        sharded = [p for p in model.parameters() if isinstance(p, DTensor)]
        for name, parameter in plain.named_parameters():
            own = model.get_parameter(name)
            assert isinstance(own, DTensor)
            assert torch.equal(own.full_tensor(), parameter), name
        held = sum(p.to_local().numel() for p in sharded) / sum(p.numel() for p in sharded)
        losses = train(model, 2)
        tc.distributed.save(model, folder / "trained")
        if dist.get_rank() == 0:
            files = len(list((folder / "llama").glob("*.safetensors")))
            kept = sum("lora" in name for name, _ in model.named_parameters())
            print(f"{len(sharded)} parameters from {files} files, {held:.0%} of them on each rank")
            print(f"{kept} updates, trained: {losses[1] < losses[0]}")
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
