"""A creator's value outlives the constructor's own initialisation, and nothing else is dropped."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import threading

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import torchcreator as tc
from torchcreator import _private


def constant(value):
    """A creator that gives every parameter one value, unless an inner one gave it another."""

    def creator(next_creator, **kwargs):
        if kwargs["module"] is not None and kwargs["initial_value"] is None:
            kwargs["initial_value"] = torch.full(kwargs["shape"], value, dtype=kwargs["dtype"])
        return next_creator(**kwargs)

    return creator


@pytest.fixture(autouse=True)
def empty_stack():
    """Fail where a test leaves a mode behind."""
    yield
    left = _private.dispatch_stack_depth()
    for _ in range(left):
        _private.pop_dispatch_mode()
    assert left == 0


def write(how):
    """A module whose constructor writes to its two parameters in some way."""

    class Writing(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(3, 3))
            self.free = torch.zeros(3, 3)  # not a parameter: what is written there lands
            with torch.no_grad():
                how(self)

    return Writing


def all_through(name, *args):
    """Call an in-place method on the parameter and on the free tensor."""
    return lambda m: (getattr(m.w, name)(*args), getattr(m.free, name)(*args))


WRITES = {
    "normal_": all_through("normal_"),
    "fill_": all_through("fill_", 3.0),
    "zero_": lambda m: (m.w.zero_(), m.free.fill_(3.0)),
    "copy_": lambda m: (m.w.copy_(torch.full((3, 3), 3.0)), m.free.fill_(3.0)),
    "data": lambda m: (m.w.data.normal_(), m.free.data.normal_()),
    "detach": lambda m: (m.w.detach().fill_(3.0), m.free.fill_(3.0)),
    "augmented": lambda m: (m.w.mul_(0), m.free.add_(3.0)),
    "setitem": lambda m: (m.w.__setitem__(0, 3.0), m.free.__setitem__(slice(None), 3.0)),
    "view": lambda m: (m.w.view(-1)[2:5].fill_(3.0), m.free.view(-1).fill_(3.0)),
    "transpose": lambda m: (m.w.t().uniform_(2, 3), m.free.t().uniform_(2, 3)),
    "diagonal": lambda m: (m.w.diagonal().fill_(3.0), m.free.diagonal().fill_(3.0)),
    "chunk": lambda m: [c.fill_(3.0) for c in (*m.w.chunk(3), *m.free.chunk(3))],
    "out": lambda m: [torch.add(torch.ones(3, 3), 2.0, out=t) for t in (m.w, m.free)],
    "out-of-factory": lambda m: [torch.ones(3, 3, out=t) for t in (m.w, m.free)],
    "init.xavier": lambda m: [nn.init.xavier_uniform_(t) for t in (m.w, m.free)],
    "init.kaiming": lambda m: [nn.init.kaiming_normal_(t) for t in (m.w, m.free)],
    "init.trunc_normal": lambda m: [nn.init.trunc_normal_(t) for t in (m.w, m.free)],
    "init.orthogonal": lambda m: [nn.init.orthogonal_(t) for t in (m.w, m.free)],
    "init.eye": lambda m: [nn.init.eye_(t) for t in (m.w, m.free)],
    "init.sparse": lambda m: [nn.init.sparse_(t, 0.3) for t in (m.w, m.free)],
    "foreach-add": lambda m: torch._foreach_add_([m.w, m.free], 3.0),
    "foreach-copy": lambda m: torch._foreach_copy_([m.free, m.w], [torch.ones(3, 3)] * 2),
    "foreach-zero": lambda m: (torch._foreach_zero_([m.w]), m.free.fill_(3.0)),
    "foreach-lists": lambda m: torch._foreach_addcmul_(
        [m.w, m.free], [torch.ones(3, 3)] * 2, [torch.ones(3, 3)] * 2, value=3.0
    ),
    "foreach-scalars": lambda m: torch._foreach_add_([m.w, m.free], [1.0, 2.0]),
    "index_put_": lambda m: [
        t.index_put_((torch.arange(3),), torch.ones(3)) for t in (m.w, m.free)
    ],
    "index_fill_": lambda m: [t.index_fill_(0, torch.arange(3), 3.0) for t in (m.w, m.free)],
    "masked_fill_": lambda m: [t.masked_fill_(t > -1, 3.0) for t in (m.w, m.free)],
    "scatter_": lambda m: [
        t.scatter_(0, torch.zeros(1, 3, dtype=torch.long), 3.0) for t in (m.w, m.free)
    ],
}


@pytest.mark.parametrize("how", WRITES.values(), ids=WRITES)
def test_a_constructor_does_not_overwrite_what_a_creator_set(how):
    """However a constructor writes to a pinned parameter, its value stays; other tensors change."""
    with tc.creator_scope(constant(5.0)):
        module = write(how)()
    assert (module.w == 5.0).all()
    assert module.free.abs().sum() > 0


@pytest.mark.parametrize("how", WRITES.values(), ids=WRITES)
def test_an_unpinned_parameter_is_written(how):
    """The same constructors write to a parameter whose value no creator set."""
    with tc.creator_scope(lambda next_creator, **kwargs: next_creator(**kwargs)):
        module = write(how)()
    torch.manual_seed(0)
    plain = write(how)()
    torch.manual_seed(0)
    with tc.creator_scope(lambda next_creator, **kwargs: next_creator(**kwargs)):
        module = write(how)()
    assert torch.equal(module.w, plain.w)
    assert torch.equal(module.free, plain.free)


def test_a_dropped_write_returns_what_it_would_have_written_to():
    """In-place methods and ``out=`` return their tensor, also when nothing was written."""
    returned = []

    def how(m):
        returned.append(m.w.normal_() is m.w)
        returned.append(torch.add(torch.ones(3, 3), 1.0, out=m.w) is m.w)
        returned.append(nn.init.ones_(m.w) is m.w)
        values, indices = torch.empty(3), torch.empty(3, dtype=torch.long)
        maximum = torch.max(torch.eye(3) + m.free, 0, out=(values, indices))
        returned.append(maximum[0] is values and maximum[1] is indices)

    with tc.creator_scope(constant(5.0)):
        write(how)()
    assert returned == [True] * 4


def test_of_several_outputs_only_the_pinned_is_dropped():
    """An operation with two outputs writes the one that is not pinned."""
    indices = torch.zeros(3, dtype=torch.long)

    class Maximum(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(3))
            with torch.no_grad():
                torch.max(torch.eye(3), 0, out=(self.w.detach(), indices))

    with tc.creator_scope(constant(5.0)):
        module = Maximum()
    assert module.w.tolist() == [5.0] * 3
    assert indices.tolist() == [0, 1, 2]


def test_reading_is_undisturbed():
    """A constructor that computes with a pinned parameter computes with the creator's value."""
    read = []
    with tc.creator_scope(constant(5.0)):
        write(lambda m: read.append((m.w + 1).sum().item()))()
    assert read == [54.0]


def test_a_clone_is_not_pinned():
    """What a constructor makes of a pinned parameter is its own."""
    made = []

    def how(m):
        made.append(m.w.clone().zero_())
        made.append(m.w.detach().float().add(1).mul_(0))

    with tc.creator_scope(constant(5.0)):
        write(how)()
    assert all((t == 0).all() for t in made)


def test_a_gradient_is_written_in_a_constructor():
    """A backward pass in a constructor fills the gradient of a pinned parameter."""

    class Backward(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(2))
            self.w.sum().backward()
            self.w.sum().backward()

    with tc.creator_scope(constant(5.0)):
        module = Backward()
    assert module.w.grad.tolist() == [2.0, 2.0]


# What lands


def test_loading_in_the_scope_lands():
    """``load_state_dict`` writes to pinned parameters in the same scope."""
    with tc.creator_scope(constant(5.0)):
        layer = nn.Linear(2, 2)
        layer.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)})
    assert layer.weight.tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("foreach", [True, False])
def test_an_optimizer_step_in_the_scope_lands(foreach):
    """So does an optimizer's step, also the one over lists."""
    with tc.creator_scope(constant(5.0)):
        layer = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0, foreach=foreach)
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    assert (layer.weight == 4.0).all()


def test_initialising_again_in_the_scope_lands():
    """``model.apply(init)``, ``reset_parameters`` and writes by hand land after construction."""
    with tc.creator_scope(constant(5.0)):
        model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
        model.apply(lambda m: [nn.init.constant_(p, 2.0) for p in m.parameters(recurse=False)])
        assert all((p == 2.0).all() for p in model.parameters())
        model[1].reset_parameters()
        with torch.no_grad():
            model[0].weight.zero_()
    assert (model[1].weight == 1.0).all()
    assert (model[0].weight == 0.0).all()


def test_assigning_in_the_scope_lands():
    """`assign` writes to a pinned parameter."""
    with tc.creator_scope(constant(5.0)):
        layer = nn.Linear(2, 2)
        tc.assign(layer.bias, [1.0, 2.0])
    assert layer.bias.tolist() == [1.0, 2.0]


def test_loading_in_a_constructor_is_dropped():
    """Whatever a constructor does to a pinned value is its initialisation, loading included."""

    class Loading(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.layer.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)})

    with tc.creator_scope(constant(5.0)):
        module = Loading()
    assert (module.layer.weight == 5.0).all()


def test_other_constructors_may_not_overwrite_either():
    """A parent's constructor that initialises its children again is a constructor."""

    class Parent(nn.Module):
        def __init__(self):
            super().__init__()
            self.child = nn.Linear(2, 2)
            self.apply(lambda m: [nn.init.zeros_(p) for p in m.parameters(recurse=False)])

    with tc.creator_scope(constant(5.0)):
        module = Parent()
    assert (module.child.weight == 5.0).all()


def test_an_init_of_something_else_is_no_constructor():
    """Only a module's ``__init__`` counts: a trainer's may initialise a finished model."""

    class Trainer:
        def __init__(self, model):
            nn.init.zeros_(model.weight)

    with tc.creator_scope(constant(5.0)):
        layer = nn.Linear(2, 2)
        Trainer(layer)
    assert (layer.weight == 0.0).all()


def test_replacing_data_is_not_caught():
    """``p.data = x`` in a constructor is no operation, and replaces the value, as documented."""

    def how(m):
        m.w.data = torch.ones(3, 3)

    with tc.creator_scope(constant(5.0)):
        module = write(how)()
    assert (module.w == 1.0).all()


# Copies


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Transformer(4, 2, 2, 2, 8, batch_first=True),
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 3, enable_nested_tensor=False
        ),
        lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 8), 2, nn.LayerNorm(4)),
    ],
    ids=["Transformer", "Encoder", "Decoder"],
)
def test_pins_follow_deep_copies(make):
    """Modules that copy a layer and initialise the copies keep the creator's value in each."""
    with tc.creator_scope(constant(5.0)):
        model = make()
    assert all((p == 5.0).all() for p in model.parameters())


def test_pins_follow_copies_of_copies():
    """A copy of a copy is pinned too, and so is a copy inside a list."""

    class Copying(nn.Module):
        def __init__(self):
            super().__init__()
            first = nn.Linear(2, 2)
            second = copy.deepcopy(first)
            self.all = nn.ModuleList([first, second, *copy.deepcopy([second, second])])
            for p in self.parameters():
                nn.init.zeros_(p)

    with tc.creator_scope(constant(5.0)):
        module = Copying()
    assert all((p == 5.0).all() for p in module.parameters())
    assert module.all[2] is module.all[3]


def test_copies_of_unpinned_parameters_are_free():
    """A copy of a layer that no creator valued is initialised by its constructor."""

    class Copying(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.copied = copy.deepcopy(layer)
            nn.init.zeros_(self.copied.weight)

    free = nn.Linear(2, 2)
    with tc.creator_scope(constant(5.0)):
        nn.Linear(2, 2)
        module = Copying(free)
    assert (module.copied.weight == 0.0).all()


def test_memory_that_was_freed_is_not_pinned():
    """A new tensor at the address of a parameter that is gone is written by constructors."""

    class Filling(nn.Module):
        def __init__(self):
            super().__init__()
            self.free = torch.empty(64, 64)
            self.free.fill_(1.0)

    with tc.creator_scope(constant(5.0)):
        for _ in range(50):
            nn.Linear(64, 64)
            assert (Filling().free == 1.0).all()


# The user's own modes


class Counting(TorchDispatchMode):
    """Counts operations."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


class CountingCalls(TorchFunctionMode):
    """Counts calls."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [Counting, CountingCalls])
def test_a_users_mode_inside_the_scope_is_undisturbed(kind):
    """It sees what happens in it, closes, and the values on both sides of it stick."""
    with tc.creator_scope(constant(5.0)):
        before = nn.Linear(2, 2)
        with kind() as mode:
            during = nn.Linear(2, 2)
        seen = mode.count
        after = nn.Linear(2, 2)
        torch.zeros(1).add_(1)
    assert seen > 0
    assert mode.count == seen
    for layer in (before, during, after):
        assert all((p == 5.0).all() for p in layer.parameters())


@pytest.mark.parametrize("kind", [Counting, CountingCalls])
def test_a_first_pin_inside_a_users_mode_outlives_it(kind):
    """A mode of ours that is entered inside a user's goes below it, and stays when it closes."""
    with tc.creator_scope(constant(5.0)):
        with kind() as mode:
            during = nn.Linear(2, 2)
        assert _private.dispatch_stack_depth() == 1
        after = nn.Linear(2, 2)
    assert mode.count > 0
    for layer in (during, after):
        assert all((p == 5.0).all() for p in layer.parameters())


@pytest.mark.parametrize("kind", [Counting, CountingCalls])
def test_a_users_mode_around_the_scope_is_undisturbed(kind):
    """A mode opened before the scope sees the scope's operations and those after it."""
    with kind() as mode:
        with tc.creator_scope(constant(5.0)):
            layer = nn.Linear(2, 2)
        seen = mode.count
        torch.zeros(1).add_(1)
        assert mode.count > seen > 0
    assert all((p == 5.0).all() for p in layer.parameters())


def test_modes_and_scopes_interleave():
    """Scopes and modes that are opened and closed in turns leave nothing and keep every value."""
    layers = []
    with Counting(), tc.creator_scope(constant(1.0)):
        layers.append(nn.Linear(2, 2))
        with Counting(), tc.creator_scope(constant(2.0)), Counting():
            layers.append(nn.Linear(2, 2))
        layers.append(nn.Linear(2, 2))
        with Counting():
            layers.append(nn.Linear(2, 2))
    assert [layer.weight[0, 0].item() for layer in layers] == [1.0, 2.0, 1.0, 1.0]


def test_a_scope_closed_inside_a_users_mode():
    """A scope that was opened before a mode and closes inside it takes only its own away."""
    scope = tc.creator_scope(constant(5.0))
    scope.__enter__()
    nn.Linear(2, 2)
    with Counting() as mode:
        scope.__exit__(None, None, None)
        torch.zeros(1).add_(1)
        assert mode.count > 0
        assert _private.dispatch_stack_depth() == 1


@pytest.mark.parametrize("where", ["inside", "around", "after-a-pin"])
def test_fake_tensors(where):
    """FakeTensorMode opened and closed inside or around the scope makes fakes, and nothing else."""

    def creator(next_creator, **kwargs):
        kwargs["initial_value"] = lambda: torch.full(kwargs["shape"], 5.0)
        return next_creator(**kwargs)

    if where == "around":
        with FakeTensorMode(), tc.creator_scope(creator):
            fake = nn.Linear(2, 2)
        real = [nn.Linear(2, 2)]
    else:
        with tc.creator_scope(creator):
            real = [nn.Linear(2, 2)] if where == "after-a-pin" else []
            with FakeTensorMode():
                fake = nn.Linear(2, 2)
            real.append(nn.Linear(2, 2))
        assert all((p == 5.0).all() for layer in real for p in layer.parameters())
    assert all(isinstance(p, FakeTensor) for p in fake.parameters())
    assert not any(isinstance(p, FakeTensor) for layer in real for p in layer.parameters())
    assert all(tc.spec_of(p) is not None for p in fake.parameters())


@pytest.mark.parametrize(
    "context", [torch.inference_mode, torch.no_grad, lambda: torch.device("meta")]
)
def test_torchs_own_contexts(context):
    """Construction in torch's own contexts, inside the scope, ends as they say."""

    def creator(next_creator, **kwargs):
        kwargs["initial_value"] = lambda: torch.full(kwargs["shape"], 5.0)
        return next_creator(**kwargs)

    with tc.creator_scope(creator):
        with context():
            inside = nn.Linear(2, 2)
        after = nn.Linear(2, 2)
    assert all((p == 5.0).all() for p in after.parameters())
    if not inside.weight.is_meta:
        assert all((p == 5.0).all() for p in inside.parameters())


# Tasks and threads


def test_overlapping_tasks_keep_their_values():
    """Two tasks whose scopes overlap in time each keep their own values, and leave nothing."""

    async def task(value, delay):
        layers = []
        with tc.creator_scope(constant(value)):
            for _ in range(3):
                layers.append(nn.Linear(2, 2))
                await asyncio.sleep(delay)
        layers.append(nn.Linear(2, 2))
        return layers

    async def main():
        return await asyncio.gather(task(1.0, 0.002), task(2.0, 0.003), task(3.0, 0.001))

    for value, layers in zip((1.0, 2.0, 3.0), asyncio.run(main()), strict=True):
        assert all((p == value).all() for layer in layers[:3] for p in layer.parameters())
        assert tc.spec_of(layers[3].weight) is None


def test_a_task_started_inside_inherits_the_scope():
    """A task that is started in a scope makes its modules in it."""

    async def child():
        await asyncio.sleep(0)
        return nn.Linear(2, 2)

    async def main():
        with tc.creator_scope(constant(5.0)):
            return await asyncio.gather(child(), child())

    for layer in asyncio.run(main()):
        assert all((p == 5.0).all() for p in layer.parameters())


def test_a_thread_that_inherits_a_scope_cannot_set_values():
    """Values are protected thread by thread: an inherited scope says to open one in the thread."""
    raised = []

    def work():
        try:
            nn.Linear(2, 2)
        except RuntimeError as error:
            raised.append(str(error))

    with tc.creator_scope(constant(5.0)):
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(work,))
        thread.start()
        thread.join()
    assert len(raised) == 1
    assert "Linear.weight" in raised[0]
    assert "Open the creator_scope inside the thread" in raised[0]


def test_a_thread_that_inherits_a_scope_may_change_policies():
    """What needs no protection works in a thread that inherited its scope."""
    made = []
    with tc.creator_scope(lambda n, **kwargs: n(**{**kwargs, "trainable": False})):
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(lambda: made.append(nn.Linear(2, 2)),))
        thread.start()
        thread.join()
    assert {p.requires_grad for p in made[0].parameters()} == {False}


@pytest.mark.parametrize("switch", ["overwrite", "swap"])
def test_pins_are_in_nobodys_way(switch):
    """A model whose values are protected can be converted in the scope, however torch does it."""
    set_switch = getattr(torch.__future__, f"set_{switch}_module_params_on_conversion")
    with tc.creator_scope(constant(5.0)):
        layer = nn.Linear(2, 2)
        set_switch(True)
        try:
            layer.double()
        finally:
            set_switch(False)
        layer(torch.ones(1, 2, dtype=torch.float64)).sum().backward()
    assert layer.weight.dtype == torch.float64
    assert (layer.weight == 5.0).all()
    assert tc.spec_of(layer.weight) is not None
