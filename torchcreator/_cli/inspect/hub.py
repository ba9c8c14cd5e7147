"""Models of transformers from a configuration: JSON, a file with it, or the folder of a model."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from torchcreator._cli.inspect.finding import find, told
from torchcreator._cli.usage import UnusableError, reason
from torchcreator._errors import did_you_mean, shown

LIBRARY = "transformers:"
FILE = "config.json"


def is_folder(path: str) -> bool:
    """Return whether a path is that of a model's folder or configuration, and of no factory."""
    return ":" not in path and (path.endswith(FILE) or Path(path).is_dir())


def configured(path: str, config: str | None) -> tuple[Callable[[], Any], torch.dtype | None]:
    """Return what makes a model of transformers, and the dtype that its configuration asks for.

    Raises:
        UnusableError: There is no such class, or the configuration is none.
    """
    if config is None:
        config = path
        path = f"{LIBRARY}{_architecture(path)}"
    if not path.startswith(LIBRARY):
        raise UnusableError(f"--config is for transformers:CLASS, and {path!r} is none")
    settings = _settings(config)
    made: Any = find(path)
    try:
        make, given = _recipe(made, settings, path, typed=config.startswith("{"))
    except UnusableError:
        raise
    except Exception as error:
        raise UnusableError(f"{path} refuses {shown(config, 80)}: {told(error)}") from None
    dtype = getattr(given, "dtype", None)
    return functools.partial(make, given), dtype if isinstance(dtype, torch.dtype) else None


def _recipe(made: Any, settings: dict[str, Any], path: str, *, typed: bool) -> tuple[Any, Any]:
    """Return what is to be called, and the configuration that it takes."""
    kind = getattr(made, "config_class", None)
    if kind is not None:
        if typed:
            _check_names(settings, kind)
        return made, kind.from_dict(settings)
    if not hasattr(made, "from_config"):
        raise UnusableError(f"{path!r} is no model of transformers: it takes no configuration")
    if "model_type" not in settings:
        raise UnusableError(f"{path!r} serves many models: the configuration lacks 'model_type'")
    from transformers import AutoConfig

    config = AutoConfig.for_model(**settings)
    if typed:
        _check_names(settings, type(config))
    return made.from_config, config


def _check_names(settings: dict[str, Any], kind: Any) -> None:
    """Refuse what nobody would read: a configuration keeps any word without one of its own."""
    plain = kind()
    known = {*plain.to_dict(), *vars(plain), *kind.attribute_map, "torch_dtype"}
    for name in settings:
        if name not in known:
            near = did_you_mean(name, known)
            raise UnusableError(f"--config: {kind.__name__} has no {name!r}{near}")


def _architecture(path: str) -> str:
    """Return the class that a folder's configuration names."""
    named = _settings(path).get("architectures")
    if not isinstance(named, list) or not named:
        raise UnusableError(
            f"{path!r} names no architecture: write transformers:CLASS --config {path}"
        )
    return str(named[0])


def _settings(config: str) -> dict[str, Any]:
    if config.startswith("{"):
        return _parsed(config, "--config")
    file = Path(config, FILE) if Path(config).is_dir() else Path(config)
    try:
        return _parsed(file.read_text(encoding="utf-8"), repr(str(file)))
    except OSError as error:
        raise UnusableError(f"{str(file)!r} cannot be read: {reason(error)}") from None


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableError(f"{source} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UnusableError(f"{source} is {shown(value, 80)}: write a JSON object")
    return value
