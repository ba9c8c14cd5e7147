"""Other libraries, each optional: where one is missing, its questions are skipped with a reason."""

from __future__ import annotations

import importlib
import os
from typing import Any

from benchmarks._measure import SkipQuestion

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "KERAS_BACKEND": "torch",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""What makes them fit for a comparison with torch, and silent; read when they are imported."""


def peer(name: str) -> Any:
    """Import a peer.

    Raises:
        SkipQuestion: It is not installed, or cannot be imported here.
    """
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SkipQuestion(f"{error.name} is not installed") from error
    except Exception as error:
        raise SkipQuestion(f"{name} cannot be imported: {error}") from error
