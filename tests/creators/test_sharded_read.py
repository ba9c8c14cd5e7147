"""Each rank reads its part of a checkpoint, and no more, on every placement."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import torchcreator as tc
from tests.support.ranks import claims_on_ranks, run_ranks
from torchcreator import creators
from torchcreator._build.build import build, defer
from torchcreator._build.materialize import materialize
from torchcreator._errors import CheckpointError
from torchcreator.creators import from_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


LINUX = Path("/proc/self/maps").exists()  # which gives account of pages


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(130, 259)  # no number of ranks divides it
        self.down = nn.Linear(259, 130)
        self.norm = nn.BatchNorm1d(130)
        self.experts = nn.Parameter(torch.empty(4, 7, 10).normal_())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(301, 130)
        self.blocks = nn.ModuleList([Block() for _ in range(2)])
        self.head = nn.Linear(130, 301, bias=False)
        self.head.weight = self.embed.weight


def trained():
    """Return values unlike those that a constructor makes, a tie under one of its names."""
    model = build(Net, seed=3)
    with torch.no_grad():
        for number, tensor in enumerate(model.state_dict().values()):
            tensor.add_(number + 10)
    return {n: t.clone() for n, t in model.state_dict().items() if n != "head.weight"}


def files(where):
    """Write a checkpoint in every form; return them by name."""
    state = trained()
    save_file(state, where / "model.safetensors")
    torch.save({"model": state, "step": 3}, where / "model.pt")
    shards = where / "shards"
    shards.mkdir()
    halves = [dict(list(state.items())[:7]), dict(list(state.items())[7:])]
    for number, half in enumerate(halves):
        save_file(half, shards / f"{number}.safetensors")
    index = {name: f"{number}.safetensors" for number, half in enumerate(halves) for name in half}
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return {
        "file": (where / "model.safetensors", {}),
        "index": (shards, {}),
        "torch": (where / "model.pt", {"key": "model"}),
        "copied": (where / "model.safetensors", {"copy": True}),
        "renamed": (
            _renamed(state, where / "other.safetensors"),
            {"rename": lambda name: f"model.{name}"},
        ),
    }


def _renamed(state, path):
    save_file({f"model.{name}": tensor for name, tensor in state.items()}, path)
    return path


def rows(model):
    return fully_shard(model)


def columns(model):
    def place(parameter):
        return Shard(1) if parameter.dim() > 1 and parameter.shape[1] % 2 == 0 else Shard(0)

    return fully_shard(model, shard_placement_fn=place)


def tensor_parallel(model):
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for block in model.blocks:
        parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    return model


def distributed(model):
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))

    def place(name, module, mesh):
        for local, parameter in list(module.named_parameters(recurse=False)):
            kind = {2: Shard(1), 3: Shard(2)}.get(parameter.dim(), Replicate())
            placed = nn.Parameter(distribute_tensor(parameter, mesh, [kind]))
            module.register_parameter(local, placed)

    distribute_module(model, mesh, place)  # buffers become DTensors too
    model.head.weight = model.embed.weight
    return model


WAYS = {
    "rows": rows,
    "columns": columns,
    "tensor parallel": tensor_parallel,
    "distribute_module": distributed,
}


def full(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def assert_values(model, state):
    for name, tensor in model.state_dict().items():
        expected = state["embed.weight" if name == "head.weight" else name]
        assert torch.equal(full(tensor), expected), name


def equals_the_file(found):
    """Every form of a checkpoint, on every placement, buffers and ties too."""
    state = trained()
    for way in WAYS.values():
        for path, options in found.values():
            model = way(defer(Net, seed=0))
            with tc.creator_scope(from_checkpoint(path, **options)):
                materialize(model)
            assert_values(model, state)


def shards_of_rows_are_pages_of_the_file(found):
    """They are no copies, and the storage of each is as large as the shard."""
    if not LINUX:
        return
    model = rows(defer(Net, seed=0))
    with tc.creator_scope(from_checkpoint(found["file"][0])):
        materialize(model)
    pages = Path("/proc/self/maps").read_text()
    mapped = [line.split()[0] for line in pages.splitlines() if "model.safetensors" in line]
    ranges = [tuple(int(end, 16) for end in line.split("-")) for line in mapped]
    for name in ("blocks.0.down.weight", "blocks.1.experts"):  # FSDP2 pads, and copies, the others
        local = model.get_parameter(name).to_local()
        assert local.untyped_storage().nbytes() == local.nbytes
        assert any(first <= local.data_ptr() < last for first, last in ranges), name


def missing_keys(found):
    """They are an error that names them, and leaves the model as it waited; or the own values."""
    state, path = trained(), found["file"][0].with_name(f"some{dist.get_rank()}.safetensors")
    left = {"blocks.0.up.weight", "blocks.1.down.weight"}
    save_file({name: tensor for name, tensor in state.items() if name not in left}, path)
    model = columns(defer(Net, seed=5))
    with (
        tc.creator_scope(from_checkpoint(path)),
        pytest.raises(CheckpointError, match=r"missing in the files \(2\):\n +blocks\.0\.up\.wei"),
    ):
        materialize(model)
    assert all(parameter.to_local().is_meta for parameter in model.parameters())
    with tc.creator_scope(from_checkpoint(path, strict=False)):
        materialize(model)
    own = dict(build(Net, seed=5).named_parameters())
    assert_values(model, {**state, **{name: own[name].detach() for name in left}})


def _half(tensor):
    return tensor.bfloat16() if tensor.is_floating_point() else tensor


def other_values(found):
    """Converted as they are read, where that is asked for; and slices that others can read."""
    state, path = trained(), found["file"][0]
    model = columns(defer(Net, seed=0).bfloat16())
    with tc.creator_scope(from_checkpoint(path, cast=True)):
        materialize(model)
    assert_values(model, {name: _half(tensor) for name, tensor in state.items()})

    with safe_open(path, "pt") as opened:

        def read(next_creator, **kwargs):
            kwargs["initial_value"] = opened.get_slice(kwargs["name"])
            return next_creator(**kwargs)

        def halved(next_creator, **kwargs):
            half = creators.elementwise(kwargs["initial_value"], lambda v: v / 2)
            return next_creator(**{**kwargs, "initial_value": half})

        model = rows(defer(Net, seed=0))
        with tc.creator_scope(halved, read):
            materialize(model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.full_tensor(), state[name] / 2), name


def a_file_replaced(found):
    """What was replaced between is an error; the model still waits, for the new one, say."""
    path = found["file"][0].with_name(f"mine{dist.get_rank()}.safetensors")
    save_file(trained(), path)
    creator = from_checkpoint(path)
    save_file(trained(), f"{path}.new")
    Path(f"{path}.new").replace(path)
    model = rows(defer(Net, seed=0))
    with tc.creator_scope(creator), pytest.raises(CheckpointError, match="changed or replaced"):
        materialize(model)
    with tc.creator_scope(from_checkpoint(path)):
        materialize(model)
    assert_values(model, trained())


def taken():
    gc.collect()
    status = Path("/proc/self/status").read_text()
    rows = {line.partition(":")[0]: line for line in status.splitlines()}
    return [int(rows[name].split()[1]) / 1024 for name in ("RssAnon", "RssFile")]


def memory(found):
    """Of 64 MiB a rank maps or reads its half; columns do not bring the file into memory."""
    if not LINUX:
        return
    path = found["file"][0].with_name(f"large{dist.get_rank()}.safetensors")
    save_file({"weight": torch.ones(4096, 4096)}, path)
    for way, anonymous, pages in ((rows, 3, 3), (columns, 32 + 6, 3)):
        model = way(defer(nn.Linear, 4096, 4096, bias=False, seed=0))
        before = taken()
        with tc.creator_scope(from_checkpoint(path)):
            materialize(model)
        grown = [now - then for now, then in zip(taken(), before, strict=True)]
        assert grown[0] < anonymous, (way, grown)
        assert grown[1] < pages, (way, grown)
        assert model.weight.to_local().sum() == 2048 * 4096
    path.unlink()


CLAIMS = [
    *(equals_the_file, shards_of_rows_are_pages_of_the_file, missing_keys, other_values),
    *(a_file_replaced, memory),
]


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Each claim, tried on two ranks."""
    found = files(tmp_path_factory.mktemp("files"))
    return claims_on_ranks(CLAIMS, 2, tmp_path_factory.mktemp("ranks"), found)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_claim(claim, played):
    """It holds on both ranks."""
    for wrong in played:
        assert claim.__name__ not in wrong, wrong[claim.__name__]


def test_fully_shard_over_tensor_parallelism(tmp_path):
    """Four ranks, two dimensions: strided shards of rows, and columns of rows."""

    class Even(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Linear(8, 16)
            self.down = nn.Linear(16, 8)

    path = tmp_path / "even.safetensors"
    state = {name: tensor + 7 for name, tensor in build(Even, seed=2).state_dict().items()}
    save_file(state, path)

    def rank(_):
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
        model = defer(Even, seed=0)
        plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
        parallelize_module(model, mesh["tensor"], plan)
        fully_shard(model, mesh=mesh["data"])
        with tc.creator_scope(from_checkpoint(path)):
            materialize(model)
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter.full_tensor(), state[name]), name

    run_ranks(rank, 4, tmp_path)
