"""Find the factory that the command line names, and read its arguments."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchcreator._cli.usage import UnusableError
from torchcreator._errors import did_you_mean, shown
from torchcreator.report._text import printable

_OURS = ("torch.", "torchcreator.", "importlib.", "functools")
"""Modules whose lines tell a user nothing."""
Arguments = tuple[list[Any], dict[str, Any]]


def find(path: str) -> nn.Module | Callable[..., Any]:
    """Return what ``package.module:attribute`` names.

    Raises:
        UnusableError: There is no such thing, or it makes no model.
    """
    module, colon, attributes = path.partition(":")
    named = module and "/" not in module and not module.endswith(".py") and colon
    if not named or not all(part.isidentifier() for part in attributes.split(".")):
        hint = f"write package.module:factory{_instead(path)}"
        raise UnusableError(f"{path!r} names no factory: {hint}")
    found: Any = _imported(module)
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            near = did_you_mean(attribute, [name for name in dir(found) if name[0] != "_"])
            message = f"{path!r}: {_title(found)} has no {attribute!r}{near}"
            raise UnusableError(message) from None
    if not callable(found):
        raise UnusableError(f"{path!r} is {shown(found, 80)}, neither a factory nor a model")
    factory: nn.Module | Callable[..., Any] = found
    return factory


def read_arguments(text: str | None, factory: Any, path: str) -> Arguments:
    """Return the factory's arguments, positional and by keyword.

    Raises:
        UnusableError: They are not JSON, or do not fit.
    """
    positional, keywords = ([], {}) if text is None else _parsed(text)
    if isinstance(factory, nn.Module):
        if text is not None:
            raise UnusableError(f"{path!r} is a model that is made already: it takes no arguments")
        return positional, keywords
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # a builtin, say
        return positional, keywords
    try:
        signature.bind(*positional, **keywords)
    except TypeError as error:
        raise UnusableError(f"the arguments do not fit {path}{signature}: {error}") from None
    return positional, keywords


SHORT = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp64": "float64"}
"""What dtypes are called elsewhere."""


def read_dtype(text: str) -> torch.dtype:
    """Return a floating dtype by its name.

    Raises:
        UnusableError: There is none of that name.
    """
    found = getattr(torch, SHORT.get(text, text), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        known = [*SHORT, *SHORT.values()]
        near = did_you_mean(text, known)
        raise UnusableError(f"--dtype {text!r} is no floating dtype{near}: {', '.join(known)}")
    return found


def told(error: BaseException) -> str:
    """Return an exception in one line, with the last line of other people's code it came from."""
    text = str(error).strip().partition("\n")[0]
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    theirs = [f for f in frames if not f.f_globals.get("__name__", "").startswith(_OURS)]
    last = next(reversed(theirs), None)
    where = f" ({last.f_code.co_filename}:{last.f_lineno})" if last else ""
    return printable(f"{type(error).__name__}: {text}" if text else type(error).__name__) + where


def _parsed(text: str) -> Arguments:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableError(f"the arguments are not JSON: {shown(text, 80)}: {error}") from None
    if isinstance(value, list):
        return value, {}
    if isinstance(value, dict):
        return [], value
    raise UnusableError(f"the arguments are {shown(value, 80)}: write a JSON list, or an object")


def _imported(module: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise UnusableError(f"there is no module {error.name!r}") from None
        raise UnusableError(f"{module!r} cannot be imported: {told(error)}") from None
    except (Exception, SystemExit) as error:
        raise UnusableError(f"{module!r} cannot be imported: {told(error)}") from None


def _instead(path: str) -> str:
    """Return what was probably meant, where a file or a dotted name was written."""
    file, _, attribute = path.partition(":")
    if file.endswith(".py"):
        module = ".".join(Path(file).with_suffix("").parts)
        return f", {module}:{attribute or 'factory'}" if not Path(file).is_absolute() else ""
    module, dot, attribute = path.rpartition(".")
    return f", {module}:{attribute}" if dot and ":" not in path else ""


def _title(found: Any) -> str:
    return f"{type(found).__name__} {getattr(found, '__name__', type(found).__name__)!r}"
