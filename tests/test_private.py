"""The private names of torch that we use are where we look for them."""

from __future__ import annotations

import ast
import pkgutil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from tests.ranks import run_ranks
from torchcreator import _private

OLDEST = torch.__version__.startswith("2.6.")


def test_a_backward_has_a_number_and_an_end():
    """Inside a backward its number is known, and a callback runs once before it returns."""
    log = []

    def hook(parameter):
        log.append(_private.current_graph_task() >= 0)
        _private.at_end_of_backward(lambda: log.append("end"))

    p = nn.Parameter(torch.ones(1))
    p.register_post_accumulate_grad_hook(hook)
    (p * 2).sum().backward()
    assert log == [True, "end"]
    assert _private.current_graph_task() == -1


@pytest.mark.skipif(OLDEST, reason="FSDP2 of torch 2.6 does not run on a CPU")
def test_ddp_and_fsdp_are_as_we_know_them(tmp_path):
    """DDP leaves alone what it is told to; FSDP2 tells its parameters and its mesh."""

    def look(rank):
        model = nn.Linear(2, 2)
        _private.ignore_in_ddp(model, ["bias", ".bias"])
        ignored = DistributedDataParallel(model).parameters_to_ignore
        sharded = fully_shard(nn.Linear(2, 2, bias=False))
        (before,) = _private.sharded_parameters(sharded)
        sharded.unshard()
        (after,) = _private.sharded_parameters(sharded)
        same = after.sharded is before.sharded and after.whole is sharded.weight
        dist.barrier()
        return sorted(ignored), before.whole, same, (after.rank, after.size)

    assert run_ranks(look, 2, tmp_path) == [
        ([".bias", "bias"], None, True, (rank, 2)) for rank in range(2)
    ]


PATHS = [
    "torch._C._current_graph_task_id",
    "torch._C._DisableTorchDispatch",
    "torch._C._dynamo.eval_frame._FrameAction.SKIP",
    "torch._C._dynamo.eval_frame._FrameExecStrategy",
    "torch._C._dynamo.eval_frame.set_code_exec_strategy",
    "torch._C._has_storage",
    "torch._C._is_torch_function_mode_enabled",
    "torch._C._len_torch_dispatch_stack",
    "torch._C._nn.flatten_dense_tensors",
    "torch._C._nn.unflatten_dense_tensors",
    "torch._C._storage_id",
    "torch._C._storage_Use_Count",
    "torch._C._swap_tensor_impl",
    "torch._C.DisableTorchFunction",
    "torch._conj",
    "torch._foreach_clamp_max_",
    "torch._foreach_clamp_min_",
    "torch._foreach_copy_",
    "torch._has_compatible_shallow_copy_type",
    "torch._neg_view",
    "torch._subclasses.fake_tensor:FakeTensor",
    "torch._subclasses.fake_tensor:FakeTensorMode",
    "torch.autograd.Variable._execution_engine.queue_callback",
    "torch.distributed._composable_state:_module_state_mapping",
    "torch.distributed.fsdp:FSDPModule._get_fsdp_state",
    "torch.distributed.optim.zero_redundancy_optimizer:ZeroRedundancyOptimizer",
    "torch.Generator._cdata",
    "torch.nn.modules.batchnorm:_NormBase",
    "torch.nn.parallel:DistributedDataParallel._set_params_and_buffers_to_ignore_for_model",
    "torch.Tensor._version",
    "torch.UntypedStorage._cdata",
    "torch.utils._mode_utils:no_dispatch",
    "torch.utils._python_dispatch:_get_current_dispatch_mode_stack",
    "torch.utils._python_dispatch:_pop_mode",
    "torch.utils._python_dispatch:_push_mode",
]

OF_INSTANCES = {
    "_fsdp_param_group",  # of torch < 2.12
    "_fsdp_param_groups",
    "_overlap_with_ddp",
    "_unsharded_param",
}
"""Private names that only instances have; the tests of behaviour look at those."""


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # by an import of torch's
@pytest.mark.parametrize("path", PATHS)
def test_a_private_name_is_where_we_look_for_it(path):
    """Each private name that can be found without an instance is there."""
    if OLDEST and path.startswith("torch._C._dynamo."):
        pytest.skip("torch 2.6 hides a function from its compiler by skip_code")
    try:
        found = pkgutil.resolve_name(path)
    except (AttributeError, ImportError) as error:
        pytest.fail(f"torch {torch.__version__} has no {path}, which _private.py uses: {error}")
    assert found is not None


def test_no_private_name_is_forgotten():
    """The names above are all private names of torch in the module that holds them."""
    tree = ast.parse(Path(_private.__file__).read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            used |= {alias.name for alias in node.names} | set(node.module.split("."))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            used |= set(node.value.split("."))
    used = {name for name in used if name.startswith("_") and not name.startswith("__")}
    known = {part for path in PATHS for part in path.replace(":", ".").split(".")}
    ours = {name.id for name in ast.walk(tree) if isinstance(name, ast.Name)}
    assert used - known - ours == OF_INSTANCES, "add it to PATHS, with a test of what it does"


def test_a_storage_tells_who_looks_at_it():
    """Tensors of one storage have one key, and the storage counts them."""
    first = torch.empty(2, 3, device="meta")
    second, other = first.t(), torch.empty(2, 3, device="meta")
    assert _private.storage_key(first) == _private.storage_key(second)
    assert _private.storage_key(first) != _private.storage_key(other)
    assert _private.viewers(first.untyped_storage()) == 2
    del second
    assert _private.viewers(first.untyped_storage()) == 1


def test_a_guard_keeps_modes_from_being_called():
    """While it lives no dispatch mode sees an operation; afterwards it does again."""
    seen = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Mode():
        guard = _private.past_dispatch()
        torch.empty(1)
        assert not seen
        del guard
        torch.empty(1)
    assert len(seen) == 1


def test_modes_are_pushed_and_popped():
    """What is pushed is on the stack, outermost first, and comes off it in reverse."""

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    first, second = Mode(), Mode()
    assert _private.dispatch_stack_depth() == 0
    _private.push_dispatch_mode(first)
    _private.push_dispatch_mode(second)
    assert _private.dispatch_stack_depth() == 2
    assert _private.dispatch_modes() == [first, second]
    with _private.no_dispatch_modes():
        assert torch.ones(1).item() == 1.0
    assert _private.pop_dispatch_mode() is second
    assert _private.pop_dispatch_mode() is first
    assert _private.dispatch_modes() == []


def test_data_can_be_shared_on_one_kind_of_device():
    """A parameter takes a tensor of another dtype as its data, but none of another backend."""
    p = nn.Parameter(torch.ones(2))
    assert _private.can_share_data(p, torch.ones(3, dtype=torch.float64))
    assert not _private.can_share_data(p, torch.ones(2, device="meta"))


def test_lists_are_written_in_one_call():
    """The ``_foreach_`` operations write every member."""
    tensors = [torch.tensor([-1.0, 3.0]), torch.tensor([0.5])]
    _private.foreach_clamp_min_(tensors, 0.0)
    _private.foreach_clamp_max_(tensors, 2.0)
    assert [t.tolist() for t in tensors] == [[0.0, 2.0], [0.5]]
    _private.foreach_copy_(tensors, (torch.ones(2), torch.zeros(1)))
    assert [t.tolist() for t in tensors] == [[1.0, 1.0], [0.0]]


def test_a_write_raises_the_version():
    """A tensor's version rises with each write to it, also through a view."""
    tensor = torch.zeros(2)
    before = _private.version(tensor)
    tensor[0].add_(1)
    assert _private.version(tensor) > before


def test_views_share_a_storage_key():
    """Tensors that look at one memory have one key, others another."""
    tensor = torch.zeros(2, 2)
    assert _private.storage_key(tensor) == _private.storage_key(tensor.t()[1:])
    assert _private.storage_key(tensor) != _private.storage_key(tensor.clone())


def test_lazy_bits_are_set():
    """Conjugation and negation come as views that compute nothing."""
    tensor = torch.tensor([1 + 2j])
    both = _private.lazy_view(tensor, conj=True, neg=True)
    assert both.is_conj()
    assert both.is_neg()
    assert both.resolve_conj().resolve_neg().item() == -1 + 2j
    assert _private.lazy_view(tensor, conj=False, neg=False) is tensor


def test_function_modes_are_passed_by():
    """Inside the context no ``__torch_function__`` is called."""

    class Refusing(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            raise AssertionError(func)

    with Refusing(), _private.no_function_modes():
        assert torch.add(torch.ones(1), 1).item() == 2.0


def test_tensors_exchange_what_they_hold():
    """Two tensor objects exchange memory and shape, and keep their identity and attributes."""
    first, second = torch.zeros(2), torch.ones(3)
    first.note = "first"
    _private.exchange(first, second)
    assert (first.tolist(), second.tolist(), first.note) == ([1.0] * 3, [0.0] * 2, "first")


def test_plain_meta_tensors_are_told_from_sparse_ones():
    """A dense meta tensor has a storage, a sparse one has none, a real one is not on meta."""
    assert _private.is_plain_meta(torch.empty(1, device="meta"))
    sparse = torch.sparse_coo_tensor(size=(2,), device="meta", check_invariants=False)
    assert not _private.is_plain_meta(sparse)
    assert not _private.is_plain_meta(torch.empty(1))


@pytest.mark.skipif(OLDEST, reason="torch 2.6 compiles what a hidden function calls")
def test_a_hidden_function_is_not_compiled():
    """torch.compile runs such a function, and what it calls, without looking into it."""
    seen = []

    def inner(x):
        seen.append(torch.compiler.is_compiling())
        return x + 1

    @_private.not_compiled
    def hidden(x):
        return inner(x)

    compiled = torch.compile(hidden, backend="eager")
    assert compiled(torch.zeros(1)).item() == 1.0
    assert seen == [False]


def test_normalisation_is_recognised():
    """Modules with running statistics are, others are not."""
    assert _private.is_normalisation(nn.BatchNorm1d(2))
    assert _private.is_normalisation(nn.InstanceNorm2d(2))
    assert not _private.is_normalisation(nn.LayerNorm(2))


def test_a_generator_is_recognised_behind_another_object():
    """One generator is itself, two are not."""
    assert _private.same_generator(torch.default_generator, torch.default_generator)
    assert not _private.same_generator(torch.default_generator, torch.Generator())


def test_fake_tensors_are_made_and_recognised():
    """A fake has the shape, strides and dtype of what it stands for, on any device."""
    mode = _private.fake_mode()
    fake = _private.faked(mode, torch.ones(2, 3).t(), "cuda")
    assert _private.is_fake(fake)
    assert not _private.is_fake(torch.ones(1))
    assert (fake.shape, fake.stride(), fake.device.type) == ((3, 2), (1, 3), "cuda")


def test_every_sharded_parameter_is_listed(tmp_path):
    """What FSDP2 shards in the process is found, module by module; plain modules are not."""

    def look(rank):
        model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
        fully_shard(model[0])
        fully_shard(model)
        found = {id(p.sharded) for p in _private.all_sharded_parameters()}
        return found == {id(p) for p in model.parameters()}

    assert _private.all_sharded_parameters() == []
    assert run_ranks(look, 1, tmp_path) == [True]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # by an import of torch's
def test_a_zero_redundancy_optimizer_is_recognised(tmp_path):
    """A ZeroRedundancyOptimizer says whether it steps inside DDP's backward; others are none."""

    def look(rank):
        from torch.distributed.optim import ZeroRedundancyOptimizer

        optimizer = ZeroRedundancyOptimizer(nn.Linear(2, 2).parameters(), torch.optim.SGD, lr=1.0)
        return _private.is_zero_redundancy(optimizer), _private.overlaps_with_ddp(optimizer)

    assert not _private.is_zero_redundancy(torch.optim.SGD([nn.Parameter(torch.ones(1))]))
    assert run_ranks(look, 1, tmp_path) == [(True, False)]


def test_active_function_modes_are_known():
    """It is known whether a ``__torch_function__`` mode is active."""

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    assert not _private.function_modes_active()
    with Mode():
        assert _private.function_modes_active()


def test_devices_without_index_are_left_where_there_is_one():
    """CPU and meta have no index, and an index that is there stays."""
    for name in ("cpu", "meta", "cuda:1"):
        assert _private.with_index(torch.device(name)) == torch.device(name)


def test_plain_shards_have_no_split_factor():
    """Only the shards of FSDP2 over tensor parallelism have one."""
    from torch.distributed.tensor import Replicate, Shard

    assert _private.split_factor(Shard(0)) is None
    assert _private.split_factor(Replicate()) is None
