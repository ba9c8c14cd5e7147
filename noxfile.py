"""Every Python and torch that the documents name, one cell of the matrix by one command.

``nox -s tests-3.11-2.10`` makes an environment, says what is in it, and runs the core of the suite;
the page on releasing has the rest. A torch built with CUDA takes some five gigabytes, so there is
one environment at a time, removed after its session.
"""

from __future__ import annotations

import shutil
from functools import partial, update_wrapper
from pathlib import Path

import nox

PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
"""One that is not on the machine is skipped, and nox says so."""

TORCHES = ["2.10", "2.11", "2.13", "2.14", "newest"]

NO_WHEEL = {("3.10", "newest")}
"""Torch 2.15 is not made for Python 3.10."""

ENVIRONMENT = """
import importlib.metadata, platform, torch
names = "numpy transformers hypothesis pytest".split()
print("Python", platform.python_version(), "| torch", torch.__version__, end="")
print("", *(f"{name} {importlib.metadata.version(name)}" for name in names), sep=" | ")
"""

nox.options.default_venv_backend = "venv"
nox.options.sessions = []  # a cell is named, never run by accident


def tests(session: nox.Session, torch: str) -> None:
    """Run the core of the suite, or what the arguments say, with one torch on one Python."""
    words = {word for word in session.posargs if word in ("whole", "keep")}
    chosen = [argument for argument in session.posargs if argument not in words]
    try:
        session.install("torch" if torch == "newest" else f"torch=={torch}.*", "-e", ".[test]")
        session.run("git", "describe", "--always", "--dirty", external=True)
        session.run("python", "-c", ENVIRONMENT)
        session.run("pytest", *(chosen or ["-m", "" if "whole" in words else "core"]))
    finally:
        if "keep" not in words:
            shutil.rmtree(session.virtualenv.location, ignore_errors=True)


for python in PYTHONS:
    for torch in TORCHES:
        if (python, torch) not in NO_WHEEL:
            cell = update_wrapper(partial(tests, torch=torch), tests)
            nox.session(cell, name=f"tests-{python}-{torch}", python=python)


@nox.session(name="release-check", python="3.11")
def release_check(session: nox.Session) -> None:
    """Check what a machine can check of a release: version, changes, every gate, the metadata."""
    session.install("twine")
    session.run("python", ".ci/check_release.py")
    session.run("bash", ".ci/run", external=True)
    session.run("twine", "check", "--strict", *map(str, Path("build/ci").glob("torchcreator-*")))
