"""What the whole process shares is left alone: no module names a way to change it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import torchcreator

PACKAGE = Path(torchcreator.__file__).parent
OWN_PROCESS = {"_cli"}
"""What runs in a process of its own, and may settle it."""
EXCEPT = {
    # Only a test calls it, and what the creator under test warns of is told otherwise.
    "testing/_conformance.py": {"warnings.catch_warnings", "warnings.simplefilter"},
}
FORBIDDEN = {
    "gc": {
        "disable",
        "enable",
        "freeze",
        "get_objects",  # hands out tuples that other threads are still making
        "set_debug",
        "set_threshold",
        "unfreeze",
    },
    "sys": {"activate_stack_trampoline", "settrace", "setprofile", "setrecursionlimit"}
    | {"setswitchinterval", "setdlopenflags", "set_int_max_str_digits"}
    | {"set_asyncgen_hooks", "set_coroutine_origin_tracking_depth"},
    "threading": {"excepthook", "setprofile", "settrace", "stack_size"}
    | {"setprofile_all_threads", "settrace_all_threads"},
    "warnings": {"catch_warnings", "filterwarnings", "resetwarnings", "simplefilter"},
    "signal": {"signal", "set_wakeup_fd"},
    "os": {"chdir", "putenv", "umask", "unsetenv"},
    "random": {"seed", "setstate"},
    "torch": {
        "manual_seed",
        "set_default_device",
        "set_default_dtype",
        "set_default_tensor_type",
        "set_deterministic_debug_mode",
        "set_float32_matmul_precision",
        "set_flush_denormal",
        "set_num_interop_threads",
        "set_num_threads",
        "set_printoptions",
        "set_warn_always",
        "use_deterministic_algorithms",
    },
}


def found_in(source: str) -> set[str]:
    """Return the forbidden names that a module's source has, as attributes or imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [(node.value.id, node.attr)]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        found |= {f"{module}.{name}" for module, name in names if name in FORBIDDEN.get(module, ())}
    return found


MODULES = sorted(
    path.relative_to(PACKAGE).as_posix()
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] not in OWN_PROCESS
)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_changes_the_process(module):
    """Neither the collector nor default dtype, warnings, tracing, signals or seeds are touched."""
    assert found_in((PACKAGE / module).read_text()) - EXCEPT.get(module, set()) == set()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import gc\ngc.get_objects()", "gc.get_objects"),
        ("from gc import disable", "gc.disable"),
        ("import torch\nset_to = torch.set_default_dtype", "torch.set_default_dtype"),
    ],
    ids=["called", "imported", "kept"],
)
def test_it_would_be_seen(source, name):
    """A forbidden name is found however it is reached."""
    assert found_in(source) == {name}
