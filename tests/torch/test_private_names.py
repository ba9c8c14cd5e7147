"""The private names of torch are where we look for them, and used in one place."""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import torchcreator

PACKAGE = Path(torchcreator.__file__).parent
PLACE = PACKAGE / "_torch"

PATHS = [
    "torch._C._current_graph_task_id",
    "torch._C._DisableTorchDispatch",
    "torch._C._dispatch_has_kernel_for_dispatch_key",
    "torch._C._distributed_c10d:GradBucket",
    "torch._C._dynamo.eval_frame._FrameAction.SKIP",
    "torch._C._dynamo.eval_frame._FrameExecStrategy",
    "torch._C._dynamo.eval_frame.set_code_exec_strategy",
    "torch._C._has_storage",
    "torch._C._is_any_autocast_enabled",
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
    "torch._foreach_mul_",
    "torch._foreach_zero_",
    "torch._has_compatible_shallow_copy_type",
    "torch._neg_view",
    "torch._ops:OpOverload",
    "torch._subclasses.fake_tensor:FakeTensor",
    "torch._subclasses.fake_tensor:FakeTensorMode",
    "torch.autograd.Variable._execution_engine.queue_callback",
    "torch.distributed._composable_state:_module_state_mapping",
    "torch.distributed.fsdp:FSDPModule._get_fsdp_state",
    "torch.distributed.optim.zero_redundancy_optimizer:ZeroRedundancyOptimizer",
    "torch.distributed.optim.zero_redundancy_optimizer:"
    "ZeroRedundancyOptimizer._build_param_buckets",
    "torch.distributed.optim.zero_redundancy_optimizer:"
    "ZeroRedundancyOptimizer._partition_parameters",
    "torch.Generator._cdata",
    "torch.multiprocessing.reductions:StorageWeakRef",
    "torch.nn.Module._apply",
    "torch.nn.Module._load_from_state_dict",
    "torch.nn.modules.batchnorm:_NormBase",
    "torch.nn.parallel:DistributedDataParallel._get_active_ddp_module",
    "torch.nn.parallel:DistributedDataParallel._set_params_and_buffers_to_ignore_for_model",
    "torch.ops.aten._to_copy.default",
    "torch.ops.aten.add.Tensor._overloadname",
    "torch.ops.aten.add.Tensor._schema",
    "torch.Tensor._base",
    "torch.Tensor._cdata",
    "torch.Tensor._make_wrapper_subclass",
    "torch.Tensor._post_accumulate_grad_hooks",
    "torch.Tensor._typed_storage",
    "torch.Tensor._use_count",
    "torch.Tensor._version",
    "torch.UntypedStorage._cdata",
    "torch.utils._mode_utils:no_dispatch",
    "torch.utils._python_dispatch:_get_current_dispatch_mode_stack",
    "torch.utils._python_dispatch:_pop_mode",
    "torch.utils._python_dispatch:_push_mode",
    "torch.utils._python_dispatch:TorchDispatchMode",
    "torch.utils._python_dispatch:TorchDispatchMode._should_skip_dynamo",
]

KNOWN = {part for path in PATHS for part in path.replace(":", ".").split(".")}

SINCE = {"torch.utils._python_dispatch:TorchDispatchMode._should_skip_dynamo": (2, 11)}
"""The torch that brought what we only need from there on: older ones wrap no mode."""

OF_INSTANCES = {
    "_checkpoint_wrapped_module",  # in the full names of what is wrapped
    "_comm_hooks",
    "_ddp_params_and_buffers_to_ignore",
    "_device_to_params_per_rank_cache",
    "_divide_by_initial_world_size",
    "_forward_pre_hooks",
    "_join_config",
    "_fsdp_param_group",  # of torch < 2.12
    "_fsdp_param_groups",
    "_in_backward_optimizers",
    *("_local_tensor", "_spec"),  # of DTensors
    "_orig_mod",
    "_overlap_with_ddp",
    "_unsharded_param",
}
"""Private names that only instances have; the tests of behaviour look at those."""

EVERYWHERE = {
    "_asyncioTestContext",  # of unittest
    *("_fields", "_replace"),  # of a named tuple, where they are documented
    "_modules",  # a module's own dictionaries, which every extension of torch reads
    "_parameters",
}
"""Private names of others that are used where they are needed."""


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # by an import of torch's
@pytest.mark.parametrize("path", PATHS)
def test_a_private_name_is_where_we_look_for_it(path):
    """Each private name that can be found without an instance is there."""
    try:
        found = pkgutil.resolve_name(path)
    except (AttributeError, ImportError) as error:
        if torch.__version__ < SINCE.get(path, (0,)):
            pytest.skip(f"not in torch {torch.__version__}, and not needed there")
        pytest.fail(f"torch {torch.__version__} has no {path}, which {PLACE.name} uses: {error}")
    assert found is not None


def trees(folder: Path) -> dict[Path, ast.Module]:
    """Return the syntax tree of every module."""
    return {path: ast.parse(path.read_text()) for path in sorted(folder.rglob("*.py"))}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_private_name_is_forgotten():
    """The names above are all private names of torch in the package that holds them."""
    used, ours = set(), {path.stem for path in PLACE.glob("*.py")} | {"_torch"}
    for tree in trees(PLACE).values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                ours.add(node.id)
            elif isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.ImportFrom):
                used |= {alias.name for alias in node.names} | set(node.module.split("."))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used |= set() if " " in node.value else set(node.value.split("."))
    found = {name for name in used if is_private(name)} - KNOWN - EVERYWHERE - ours
    assert found == OF_INSTANCES, "add it to PATHS, with a test of what it does"


def defined(tree: ast.Module) -> Iterator[str]:
    """Yield what a module of ours names itself: functions, classes, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def foreign(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and name of what a module reads of others by a private name."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.Attribute(value=ast.Name(id="sys" | "os"))
                | ast.Import(names=[ast.alias(name="_thread")])
            ):
                pass  # Python's
            case ast.Attribute(attr=name) if is_private(name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) if (
                is_private(name) and name in KNOWN
            ):  # in place of torch's
                yield node.lineno, name
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr"), args=[_, ast.Constant(value=str(name)), *_]
            ) if is_private(name):
                yield node.lineno, name
            case ast.ImportFrom(module=str(module)) if not module.startswith("torchcreator"):
                parts = [*module.split("."), *(alias.name for alias in node.names)]
                yield from ((node.lineno, name) for name in parts if is_private(name))
            case ast.Import():
                parts = [part for alias in node.names for part in alias.name.split(".")]
                yield from ((node.lineno, name) for name in parts if is_private(name))


def misplaced(folder: Path) -> list[str]:
    """Return where private names are read that are neither ours nor in their place."""
    modules = {path: tree for path, tree in trees(folder).items() if PLACE not in path.parents}
    ours = EVERYWHERE.union(*map(defined, modules.values())) - KNOWN
    return [
        f"{path.relative_to(folder)}:{line}: {name}"
        for path, tree in modules.items()
        for line, name in foreign(tree)
        if name not in ours
    ]


def test_private_names_of_torch_are_used_in_one_place():
    """Outside that package no private name of torch is read but a module's dictionaries."""
    assert misplaced(PACKAGE) == [], "give it a function in torchcreator/_torch"


@pytest.mark.parametrize(
    "line",
    [
        "torch._foreach_neg_(tensors)",
        "tensor._version",
        "getattr(model, '_orig_mod')",
        "getattr(model, '_orig_mod', model)",
        "from torch._ops import OpOverload",
        "from torch.nn.modules.module import _global_forward_hooks",
        "import torch._dynamo",
        "class Mode:\n    def _should_skip_dynamo(cls): ...",
    ],
)
def test_a_misplaced_name_is_seen(line, tmp_path):
    """Each way of reading a private name of torch is seen."""
    (tmp_path / "module.py").write_text(f"{line}\n")
    assert misplaced(tmp_path)
