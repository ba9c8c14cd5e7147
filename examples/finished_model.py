"""Change what the parameters of a finished model are: one that comes from somewhere.

Run it with ``python examples/finished_model.py``.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

import torchcreator as tc
from torchcreator import creators


def downloaded() -> nn.Module:
    """Stand for `from_pretrained`, `torch.load` or a colleague's factory."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    return nn.Sequential(nn.Embedding(100, 16), encoder, nn.Linear(16, 4))


def main() -> None:
    """Send the model through one ready-made creator after the other."""
    model, ledger = downloaded(), creators.Ledger()
    before, values = dict(model.named_parameters()), copy.deepcopy(model.state_dict())
    with tc.creator_scope(
        creators.freeze(name="0.*"),
        creators.constrain("max_norm", name="1.linear*.weight"),
        creators.optimizer(weight_decay=0.0, name=["*bias", "1.norm*"]),
        creators.aggregate("sum", name="2.*"),
        creators.local(name="1.self_attn.*"),
        creators.record(ledger),
    ):
        tc.recreate(model)
    same = all(parameter is before[name] for name, parameter in model.named_parameters())
    groups = tc.param_groups(model, optimizer=torch.optim.AdamW, weight_decay=0.1)
    print(f"{len(ledger)} parameters, the same objects: {same}")
    print("decay:", [(len(group["params"]), group["weight_decay"]) for group in groups])
    print("constrained:", [n for n, _, s in tc.named_specs(model) if s.constraint is not None])

    with tc.creator_scope(creators.on("meta")):
        tc.recreate(model)
    print("on meta:", {parameter.device.type for parameter in model.parameters()})
    with tc.creator_scope(
        creators.on("cpu"), creators.cast(torch.bfloat16), creators.from_checkpoint(values)
    ):
        tc.recreate(model)
    print("from the checkpoint:", {str(parameter.dtype) for parameter in model.parameters()})
    still = [spec.aggregation.value for name, _, spec in tc.named_specs(model) if name[0] == "2"]
    print("declared as before:", still)


if __name__ == "__main__":
    main()
