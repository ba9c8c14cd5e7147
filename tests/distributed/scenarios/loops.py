"""Other people's training loops, each with one line of ours: functions of a rank."""

from __future__ import annotations

import os
import tempfile
import warnings
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import torchcreator as tc
from torchcreator.distributed import prepare, verify

STEPS = 2
MICRO_BATCHES = 2


class Everything(nn.Module):
    """A variable of each kind. Rank 0 feeds 1 and rank 1 feeds 2, whatever the data is."""

    def __init__(self, rank, factor=1):
        super().__init__()
        self.factor = factor  # of those loops that divide by the number of micro-batches
        start = float(rank)
        for name in ("sum", "mean", "only_first_replica"):
            self.register_parameter(name, tc.variable([start], aggregation=name))
        self.plain = nn.Parameter(torch.tensor([start]))
        self.expert = tc.variable([start], synchronization="none")
        self.floor = tc.variable([start], aggregation="mean", constraint="non_neg")
        self.seen = tc.variable(0, synchronization="on_read", aggregation="sum")
        self.inner = nn.Linear(1, 1, bias=False)

    def forward(self, x=None):
        own = dist.get_rank() + 1.0
        if torch.is_grad_enabled():
            tc.assign_add(self.seen, dist.get_rank() + 1)
        trained = [p for p in self.parameters() if p.requires_grad]
        return {"loss": self.factor * torch.stack([(p * own).sum() for p in trained]).sum()}


def values(model):
    """Return what training made of each variable, and what all ranks read of the counter."""
    verify(model)
    del model.inner
    got = {name: p.item() for name, p in model.named_parameters()}
    return got | {"all seen": tc.read_value(model.seen).item()}


def sgd(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)


def in_torchrun(rank):
    """Say to libraries that look for it what torchrun says."""
    warnings.simplefilter("ignore")  # theirs
    os.environ.update(
        LOCAL_RANK=str(rank),
        LOCAL_WORLD_SIZE="2",
        GROUP_RANK="0",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT="29500",  # nobody listens: the group exists
        TORCHELASTIC_RUN_ID="test",
    )


def plain_ddp(rank, **options):
    model = prepare(Everything(rank))
    ddp = DistributedDataParallel(model, **options)
    optimizer = sgd(model)
    for _ in range(STEPS):
        optimizer.zero_grad()
        for i in range(MICRO_BATCHES):
            with nullcontext() if i == MICRO_BATCHES - 1 else ddp.no_sync():
                ddp()["loss"].backward()
        optimizer.step()
    return values(model)


def plain_ddp_with_views(rank):
    return plain_ddp(rank, gradient_as_bucket_view=True)


def plain_ddp_that_finds_unused(rank):
    return plain_ddp(rank, find_unused_parameters=True)


def accelerate(rank):
    in_torchrun(rank)
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=MICRO_BATCHES)
    model = prepare(Everything(rank, MICRO_BATCHES))
    held, optimizer = accelerator.prepare(model, sgd(model))
    for _ in range(STEPS * MICRO_BATCHES):
        with accelerator.accumulate(held):
            accelerator.backward(held()["loss"])
            optimizer.step()
            optimizer.zero_grad()
    return values(model)


def trainer(rank):
    in_torchrun(rank)
    from transformers import Trainer, TrainingArguments

    model = prepare(Everything(rank, MICRO_BATCHES))
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        use_cpu=True,
        ddp_backend="gloo",
        optim="sgd",
        learning_rate=1.0,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        max_steps=STEPS,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=MICRO_BATCHES,
        average_tokens_across_devices=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    rows = [{"x": torch.ones(1)} for _ in range(8)]
    Trainer(model, arguments, train_dataset=rows).train()
    return {name: value * 1.0 for name, value in values(model).items()}


def lightning_trainer(rank):
    in_torchrun(rank)
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Everything(rank, MICRO_BATCHES)

        def training_step(self, batch, index):
            return self.model()["loss"]

        def configure_optimizers(self):
            return sgd(self)

    module = prepare(Module())
    lightning.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_steps=STEPS,
        accumulate_grad_batches=MICRO_BATCHES,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, torch.utils.data.DataLoader(torch.ones(8, 1)))
    return values(module.model)


def fabric(rank):
    in_torchrun(rank)
    import lightning

    launched = lightning.Fabric(accelerator="cpu", devices=2, strategy="ddp")
    launched.launch()
    model = prepare(Everything(rank))
    held, optimizer = launched.setup(model, sgd(model))
    for _ in range(STEPS):
        for i in range(MICRO_BATCHES):
            with launched.no_backward_sync(held, enabled=i < MICRO_BATCHES - 1):
                launched.backward(held()["loss"])
        optimizer.step()
        optimizer.zero_grad()
    return values(model)


def wanted(rank):
    """Return what `values` returns: from 0, or from the rank itself, by the gradients declared."""
    backwards = STEPS * MICRO_BATCHES
    shared = {"sum": -3.0, "mean": -1.5, "only_first_replica": -1.0, "plain": -1.5}
    return {name: backwards * by for name, by in shared.items()} | {
        "expert": rank - backwards * (rank + 1.0),
        "floor": 0.0,
        "seen": backwards * (rank + 1),
        "all seen": backwards * 3,
    }


LOOPS = [
    plain_ddp,
    plain_ddp_with_views,
    plain_ddp_that_finds_unused,
    accelerate,
    trainer,
    lightning_trainer,
    fabric,
]
LIBRARIES = {accelerate: "accelerate", trainer: "accelerate"}
LIBRARIES |= {lightning_trainer: "lightning", fabric: "lightning"}
