"""Uses a bit of everything and prints what came out: the same under whatever setting of Python."""
# ruff: noqa: T201

from __future__ import annotations

import copy
import dataclasses
import hashlib
import pickle

import torch
import torch.distributed as dist
from torch import nn

import torchcreator as tc
from torchcreator import _errors
from torchcreator.distributed import _policy, _verify
from torchcreator.distributed._transfer import buckets_of

torch.set_num_threads(1)
LEDGER = tc.creators.Ledger()


def digest(model):
    """Return a few letters that depend on every bit of a model's values, in their order."""
    values = hashlib.blake2b(digest_size=8)
    for name, tensor in model.state_dict().items():
        values.update(name.encode() + tensor.detach().numpy().tobytes())
    return values.hexdigest()


def policies(next_creator, **kwargs):
    kwargs["aggregation"] = ("sum", "mean", "only_first_replica")[len(kwargs["name"]) % 3]
    kwargs["constraint"] = tc.constraints.MaxNorm(1.0) if len(kwargs["shape"] or ()) > 1 else None
    kwargs["tags"] = {**(kwargs["tags"] or {}), "length": len(kwargs["name"])}
    return next_creator(**kwargs)


def creators():
    torch.manual_seed(0)
    chosen = tc.creators.where(tc.creators.optimizer(weight_decay=0.0), name=("*.bias", "*norm*"))
    with (
        tc.creator_scope(tc.creators.record(LEDGER)),
        tc.creator_scope(policies),
        tc.creator_scope(chosen),
    ):
        loose = [tc.spec_of(tc.variable(float(n), name="w")).name for n in range(3)]
        model = tc.build(nn.TransformerEncoderLayer, 8, 2, 16, seed=3)
        exact = tc.build(nn.LSTM, 4, 8)
    print("names", loose, [name for name, _, _ in tc.named_specs(model)])
    print("values", digest(model), digest(exact), torch.rand(1).item())
    print("ledger", LEDGER)
    groups = tc.param_groups(model, weight_decay=0.1)
    print("groups", [(len(group["params"]), group["weight_decay"]) for group in groups])
    deferred = tc.defer(nn.TransformerEncoderLayer, 8, 2, 16, seed=3)
    print("deferred", digest(tc.materialize(deferred)))
    return model


def training(model):
    model(torch.ones(2, 3, 8)).square().mean().backward()
    torch.optim.SGD(tc.param_groups(model, lr=1.0)).step()
    print("longest row", max(p.norm(dim=1).max().item() for p in model.parameters() if p.ndim == 2))
    kept = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    print("copies", [spec.constraint for _, _, spec in tc.named_specs(kept)])


def ranks(model):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    managed = _policy.survey(model)
    world = _policy.world_or_refuse(None, "everything")
    rows = [_verify._row(m) for m in managed]
    print("rows", hashlib.blake2b(repr(rows).encode(), digest_size=8).hexdigest())
    buckets = buckets_of(managed, dataclasses.replace(world, size=2))
    print("buckets", [[m.name for m in bucket.members] for bucket in buckets])
    aggregation = tc.distributed.aggregate_gradients(model)
    model(torch.ones(2, 3, 8)).sum().backward()
    aggregation.remove()
    dist.destroy_process_group()


def refusals():
    for keywords in (
        {"shape": (-1,)},
        {"dtype": "float32"},
        {"trainabel": True},
        {"aggregation": "average"},
        {"constraint": "max_nrom"},
        {"tags": 3},
    ):
        try:
            tc.variable(1.0, name="refused", **keywords)
        except tc.TorchCreatorError as error:
            print("refused", type(error).__name__, "|".join(error.args))
    print("kinds", sorted(kind.__name__ for kind in _errors.TorchCreatorError.__subclasses__()))


if __name__ == "__main__":
    model = creators()
    training(model)
    ranks(model)
    refusals()
    print("done")
