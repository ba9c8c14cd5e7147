"""What people pass by mistake to the entry points of several ranks, tried on a world of one.

Either gradients come out right, or an error says what was wrong: then no DDP was made, the model
has neither a hook nor an attribute more, and what was in force before still is.
"""

from __future__ import annotations

import contextlib
import inspect

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

import torchcreator as tc
from tests.distributed.models import Policies, expected, feed, gradients
from tests.properties.mistakes import VALUES, mistake
from tests.properties.outcomes import check_message
from tests.support.ranks import run_ranks
from torchcreator.distributed import aggregate_gradients, data_parallel
from torchcreator.distributed._watch import kept as kept_by

# Torch warns of options that it is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore")

OURS = dict.fromkeys(("model", "process_group", "compress"), VALUES)
OF_DDP = [*inspect.signature(DistributedDataParallel).parameters][1:]
A_FEW = ("None", "True", "0", "1.5", "'cpu'", "[1, 2]")  # of what DDP itself is told
ENTRIES = {
    "data_parallel": (data_parallel, OURS | dict.fromkeys(OF_DDP, A_FEW)),
    "aggregate_gradients": (aggregate_gradients, OURS),
}


def traces(model):
    """Return all that an entry point may leave on a model."""
    values = [p.detach().clone() for p in model.parameters()]
    return sorted(vars(model)), len(model._forward_pre_hooks), kept_by(model) is None, values


def same(left, right):
    values = zip(left[-1], right[-1], strict=True)
    return left[:-1] == right[:-1] and all(torch.equal(a, b) for a, b in values)


def attempt(entry, option, value, made):
    """Call an entry point with one value, and look at what became of the model."""
    model = Policies(0)
    before = traces(model)
    made.clear()
    keywords = {option: value}
    given = keywords.pop("model", model)
    try:
        host = entry(given, **keywords)
    except tc.TorchCreatorError as error:
        check_message(error, "")
        assert made == [], "a DDP was made"
        assert same(traces(model), before), "the model was changed"
        return
    if given is model:
        host = host if isinstance(host, nn.Module) else model
        host(feed(0)).backward()
        got = {name: value for name, value in gradients(host).items() if value is not None}
        want = {name: value for name, value in expected(0, world_size=1).items() if name in got}
        assert got == want
        assert len(got) >= 8


def tried(entry, options):
    """Return what went wrong with which value of which option."""
    made, wrong = [], []
    constructor = DistributedDataParallel.__init__

    def counted(self, *args, **kwargs):
        constructor(self, *args, **kwargs)
        made.append(1)

    DistributedDataParallel.__init__ = counted  # in this rank only, which ends with the test
    counted.__signature__ = inspect.signature(constructor)
    for option, labels in options.items():
        for label in labels:
            try:
                attempt(entry, option, mistake(label), made)
            except BaseException as error:
                wrong.append(f"{option}={label}: {type(error).__name__}: {str(error)[:200]}")
    return wrong


@pytest.mark.parametrize("entry", ENTRIES)
def test_any_option(entry, tmp_path):
    """Whatever an option is, there is a right gradient, or an error and nothing half done."""
    ((wrong),) = run_ranks(lambda rank: tried(*ENTRIES[entry]), 1, tmp_path)
    assert wrong == []


def refused_again(rank):
    """Return whether the policies of an earlier call are still there after one that was refused."""
    kept = {}
    for host in ("plain", "ddp"):
        model = Policies(rank, per_rank=False)
        held = DistributedDataParallel(model) if host == "ddp" else model
        first = aggregate_gradients(held)
        for keywords in ({"compress": "fast"}, {"process_group": 3}, {"compress": torch.int8}):
            with pytest.raises(tc.TorchCreatorError, match="aggregate_gradients"):
                aggregate_gradients(held, **keywords)
        model.local = tc.variable([1.0], synchronization="none")  # which DDP has in hand, it says
        with (
            pytest.raises(tc.TorchCreatorError, match="local")
            if host == "ddp"
            else contextlib.nullcontext()
        ):
            aggregate_gradients(held)
        kept[host] = kept_by(held) is first
    return kept


def test_a_refused_call_leaves_an_earlier_one_in_force(tmp_path):
    """The policies of the first call go only when those of the second come."""
    assert run_ranks(refused_again, 1, tmp_path) == [{"plain": False, "ddp": True}]


def hook_refused_by_torch(rank):
    model, made = Policies(rank), []

    def annotated(state: object, bucket: int) -> int:
        raise AssertionError

    with pytest.raises(tc.TorchCreatorError, match=r"refused Policies .*(?s:.)*ValueError"):
        made.append(data_parallel(model, compress=annotated))
    return made, [name for name in vars(model) if "ddp" in name]


def test_a_hook_that_torch_refuses_leaves_nothing_on_the_model(tmp_path):
    """What DDP alone can tell is told in our words, and its ignore list is taken back."""
    assert run_ranks(hook_refused_by_torch, 1, tmp_path) == [([], [])]


def test_options_that_cannot_be_meant(tmp_path):
    """Refused: a misspelt option, two groups, another's group, a way around the policies."""

    def refused(rank):
        with pytest.raises(TypeError, match=r"'find_unused' \(did you mean 'find_unused_para"):
            data_parallel(Policies(rank), find_unused=True)
        with pytest.raises(TypeError, match=r"'group' \(did you mean 'process_group'\?\)"):
            data_parallel(Policies(rank), group=dist.group.WORLD)
        mesh = init_device_mesh("cpu", (1,))
        with pytest.raises(TypeError, match="given a group twice"):
            data_parallel(Policies(rank), process_group=dist.group.WORLD, device_mesh=mesh)
        with pytest.raises(tc.TorchCreatorError, match="this process is not in"):
            data_parallel(Policies(rank), process_group=dist.GroupMember.NON_GROUP_MEMBER)
        model = Policies(rank)
        with pytest.raises(tc.TorchCreatorError, match="whatever their policy is"):
            data_parallel(model, delay_all_reduce_named_params=[("summed", model.summed)])
        return True

    assert run_ranks(refused, 1, tmp_path) == [True]
