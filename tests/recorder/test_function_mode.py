"""A constructor cannot tell that it is being recorded."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator._build.build import build, defer
from torchcreator._errors import BuildError
from torchcreator._recorder import answers
from torchcreator._recorder.origins import DEFERRED
from torchcreator._recorder.recording import record


class Initialised(nn.Module):
    def __init__(self, initialise):
        super().__init__()
        self.w = nn.Parameter(torch.empty(4, 4, 4))
        initialise(self.w)


@pytest.mark.skipif(torch.__version__ < (2, 13), reason="torch 2.10 and 2.11 skip none on meta")
@pytest.mark.parametrize("device", [None, "cpu"], ids=["no device", "a device"])
@pytest.mark.parametrize("name", ["trunc_normal_", "orthogonal_", "dirac_"])
def test_initialisers_that_skip_meta_are_one_operation(name, device):
    """What `torch.nn.init` would skip on meta is logged whole, for its loops depend on draws."""
    model = defer(Initialised, getattr(nn.init, name), device=device)
    assert [op.name for op in model.__dict__[DEFERRED].recording.tape.ops][1:] == [
        {"trunc_normal_": "_no_grad_trunc_normal_"}.get(name, name)
    ]


def test_lines_are_the_users():
    """Each operation knows the line of the user's code that it came from."""
    _, recording, _ = record(lambda: nn.Linear(2, 2), (), {}, device=None, seed=None, find=False)
    assert {op.line.file for op in recording.tape.ops} == {__file__}
    assert {op.line.number for op in recording.tape.ops} == {
        test_lines_are_the_users.__code__.co_firstlineno + 2
    }


def test_arrays_are_read_only():
    """A write through `.numpy()` cannot be seen, so it raises instead of being lost."""

    def factory():
        layer = nn.Linear(2, 2)
        layer.weight.detach().numpy()[:] = 1
        return layer

    with pytest.raises(ValueError, match="read-only"):
        build(factory)


def escaping(call):
    def factory():
        layer = nn.Linear(2, 2)
        call(layer.weight.detach())
        return layer

    return factory


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda w: w.data_ptr(), "data_ptr"),
        (lambda w: w.untyped_storage().fill_(1), "untyped_storage"),
        (lambda w: w.storage(), "storage"),
        (lambda w: w.share_memory_(), "share_memory_"),
        (lambda w: w.apply_(lambda x: x + 1), "apply_"),
        (copy.copy, "__reduce_ex__|untyped_storage"),
        (lambda w: torch.save(w, io.BytesIO()), "untyped_storage|__reduce_ex__"),
        (lambda w: np.from_dlpack(w), "__dlpack__"),
        (lambda w: torch.tensor([1.0]).set_(w), "set_"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_escapes(call, name):
    """What torch does not dispatch raises, naming the operation and the constructor's line."""
    with pytest.raises(BuildError, match=rf"Tensor\.({name}).*called at .*\.py:\d+"):
        build(escaping(call))


def test_generator_after_an_escape():
    """A constructor that raises leaves the generator as it was found."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with pytest.raises(BuildError):
        build(escaping(lambda w: w.data_ptr()))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_storage_made_out_of_sight():
    """A parameter whose memory no recorder saw is an error that names it, never garbage."""

    def factory():
        layer = nn.Linear(2, 2)
        memory = torch.UntypedStorage(16, device="meta")
        layer.weight.data = torch.empty(0).set_(memory, 0, (2, 2))
        return layer

    with pytest.raises(BuildError, match=r"'weight' has no value(.|\n)*no recorder sees it"):
        build(factory)


def test_memory_never_initialised():
    """A parameter left as `torch.empty` found it is an error, unless a creator gives a value."""

    class Forgetful(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(2)
            self.rest = nn.Parameter(torch.empty(4, 2))
            with torch.no_grad():
                self.rest[:2].normal_()

    with pytest.raises(BuildError, match=r"'rest' is not initialised; empty was called at .*\.py:"):
        build(Forgetful)

    def zeros(next_creator, **kwargs):
        if kwargs["name"] == "rest":
            kwargs["initial_value"] = torch.zeros(kwargs["shape"])
        return next_creator(**kwargs)

    with tc.creator_scope(zeros):
        assert build(Forgetful).rest.tolist() == [[0.0, 0.0]] * 4


def test_failing_replay():
    """An operation that fails on replay names the parameter, itself and its line."""

    def factory():
        layer = nn.Linear(2, 2)
        nn.init.normal_(layer.weight, std=-1.0)
        return layer

    with pytest.raises(BuildError, match=r"Replaying normal_ for 'weight' failed.*function_mode"):
        build(factory)


@pytest.mark.parametrize("make", [build, defer])
def test_inside_another_recorder(make):
    """Inside a FakeTensorMode, or a factory that is being built, the factory is simply called."""
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    with FakeTensorMode():
        assert isinstance(make(nn.Linear, 2, 2).weight, FakeTensor)

    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(2, 2))
    torch.manual_seed(0)
    assert torch.equal(
        build(lambda: nn.Sequential(make(nn.Linear, 2, 2)))[0].weight, plain[0].weight
    )


def test_meta_device():
    """`device="meta"`, or building under it, leaves the model there; creators can place it."""
    assert build(nn.Linear, 2, 2, device="meta").weight.is_meta
    with torch.device("meta"):
        assert build(nn.Linear, 2, 2).weight.is_meta
    with tc.creator_scope(lambda next_creator, **kwargs: next_creator(**kwargs)):
        assert build(nn.Linear, 2, 2, device="meta").weight.is_meta


def test_a_constructor_that_fails():
    """A constructor's own mistake raises torch's own error, at the line that made it."""
    with pytest.raises(RuntimeError, match=r"size of tensor a|not match|expanded size"):
        build(lambda: nn.Linear(2, 2).weight.data.copy_(torch.ones(3)))


ASKED = {
    "nothing": ((), {}, "cuda"),
    "an index": ((1,), {}, "cuda:1"),
    "index 0 by its word": ((), {"device": 0}, "cuda:0"),
    "a device": ((torch.device("cuda", 2),), {}, "cuda:2"),
    "a name": (("cuda:3",), {}, "cuda:3"),
}


@pytest.mark.parametrize(("args", "kwargs", "device"), ASKED.values(), ids=ASKED)
def test_which_gpu_a_tensor_goes_to(monkeypatch, args, kwargs, device):
    """`tensor.cuda(1)`, which `Module.cuda(1)` calls, names a GPU by its index."""
    asked = []
    monkeypatch.setattr(answers, "_to", lambda recorder, func, *rest: asked.append(rest))
    tensor = torch.ones(1)
    answers._to_kind("cuda")(None, torch.Tensor.cuda, (tensor, *args), kwargs)
    ((moved, place), words) = asked[0]
    assert (moved is tensor, torch.device(place), words) == (True, torch.device(device), {})


def test_memory_that_is_pinned():
    """Pinned memory is made at once, or refused where there is none, as in plain construction."""

    class Pinned(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.empty(3, pin_memory=True).fill_(2.0))

    if torch.cuda.is_available():
        assert build(Pinned).w.is_pinned()
    else:
        with pytest.raises(RuntimeError, match=r"pin|NVIDIA|GPU") as plain:
            Pinned()
        with pytest.raises(RuntimeError, match=r"pin|NVIDIA|GPU") as built:
            build(Pinned)
        assert str(built.value) == str(plain.value)
