"""Models that others wrote go through the whole flow on four ranks: defer, shard, start, train."""

from __future__ import annotations

import traceback

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.nn import functional as F

import torchcreator as tc
from tests.support.ranks import run_ranks
from torchcreator._build.build import build, defer
from torchcreator._build.materialize import materialize

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.wqkv = nn.Linear(width, 3 * width, bias=False)
        self.wo = nn.Linear(width, width, bias=False)

    def forward(self, x):
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.wqkv(x).chunk(3, -1)
        )
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(out.transpose(1, 2).flatten(2))

    def init_weights(self, std):
        nn.init.trunc_normal_(self.wqkv.weight, mean=0.0, std=0.02)
        nn.init.trunc_normal_(self.wo.weight, mean=0.0, std=std)


class Layer(nn.Module):
    def __init__(self, width, heads, depth):
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm = nn.RMSNorm(width)
        self.up = nn.Linear(width, 3 * width, bias=False)
        self.down = nn.Linear(3 * width, width, bias=False)
        self.std = 0.02 / (2 * (depth + 1)) ** 0.5

    def forward(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.down(F.silu(self.up(x)))

    def init_weights(self):
        self.norm.reset_parameters()
        self.attention.init_weights(self.std)
        nn.init.trunc_normal_(self.up.weight, mean=0.0, std=0.02)
        nn.init.trunc_normal_(self.down.weight, mean=0.0, std=self.std)


class Transformer(nn.Module):
    """Made in torchtitan's way: constructed first, and initialised by a method of its own."""

    def __init__(self, width=96, vocabulary=500, depth=2):
        super().__init__()
        self.tok_embeddings = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleDict({str(n): Layer(width, 4, n) for n in range(depth)})
        self.output = nn.Linear(width, vocabulary, bias=False)
        self.register_buffer("cache", torch.zeros(64, width), persistent=False)

    def forward(self, tokens):
        x = self.tok_embeddings(tokens) + self.cache[: tokens.shape[1]]
        for layer in self.layers.values():
            x = layer(x)
        return self.output(x)

    def init_weights(self):
        places = torch.arange(64.0)[:, None] / 100 ** torch.linspace(0, 1, 96)
        self.cache = places.sin()
        nn.init.normal_(self.tok_embeddings.weight)
        for layer in self.layers.values():
            layer.init_weights()
        cutoff = 3 * 96**-0.5
        nn.init.trunc_normal_(self.output.weight, 0.0, 96**-0.5, -cutoff, cutoff)


def titan():
    model = Transformer()
    with torch.no_grad():
        model.init_weights()
    return model


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 96, "intermediate_size": 256, "vocab_size": 500}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=True))


def experts():
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    sizes = {"hidden_size": 96, "intermediate_size": 160, "moe_intermediate_size": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "num_hidden_layers": 2}
    ranks = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "v_head_dim": 24}
    routed = {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1}
    more = {"first_k_dense_replace": 1, "vocab_size": 500, "qk_nope_head_dim": 16}
    return DeepseekV3ForCausalLM(DeepseekV3Config(**sizes, **heads, **ranks, **routed, **more))


FAMILIES = {"titan": titan, "llama": llama, "experts": experts}


def sharded(model, mesh):
    """Shard each layer by rows, and experts by columns."""
    options = {"mesh": mesh, "shard_placement_fn": lambda p: Shard(1 if p.dim() == 3 else 0)}
    layers = getattr(model, "layers", None) or model.model.layers
    for layer in layers.values() if isinstance(layers, nn.ModuleDict) else layers:
        fully_shard(layer, **options)
    return fully_shard(model, **options)


def assert_same(model, whole):
    ours = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, tensor in [*whole.named_parameters(), *whole.named_buffers()]:
        own = ours.pop(name)
        assert torch.equal(own.full_tensor() if isinstance(own, DTensor) else own, tensor), name
    assert not ours


def train(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    out = model(torch.arange(24).view(2, 12))
    getattr(out, "logits", out).square().mean().backward()
    optimizer.step()


def goes_through(make, seed, mesh):
    torch.manual_seed(5)
    model = sharded(defer(make, seed=seed), mesh)
    torch.manual_seed(5)
    whole = make() if seed is None else build(make, seed=seed)
    assert_same(materialize(model), whole)
    train(model)


def starts_from_a_checkpoint(make, seed, mesh):
    torch.manual_seed(6)
    other = make()
    state = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    model = sharded(defer(make, seed=seed), mesh)
    with tc.creator_scope(tc.creators.from_checkpoint(state), tc.creators.freeze(name="*norm*")):
        materialize(model)
    assert_same(model, other)
    assert [n for n, p in model.named_parameters() if not p.requires_grad]
    train(model)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Every family on four ranks: sharded by all of them, and by two with two replicas."""

    def every(_):
        wrong = {}
        both = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
        meshes = [init_device_mesh("cpu", (4,)), both]
        for name, make in FAMILIES.items():
            for seed, mesh in zip((None, 3), meshes, strict=True):
                try:
                    goes_through(make, seed, mesh)
                    starts_from_a_checkpoint(make, seed, mesh)
                except Exception:
                    wrong[name] = traceback.format_exc()
            dist.barrier()
        return wrong

    import transformers.models.deepseek_v3.modeling_deepseek_v3  # once, and not in each fork
    import transformers.models.llama.modeling_llama  # noqa: F401

    return run_ranks(every, 4, tmp_path_factory.mktemp("ranks"), timeout=170)


@pytest.mark.parametrize("family", FAMILIES)
def test_family(family, played):
    """Its shards are the unsharded model's, from draws and from a checkpoint, and it trains."""
    for wrong in played:
        assert family not in wrong, wrong[family]
