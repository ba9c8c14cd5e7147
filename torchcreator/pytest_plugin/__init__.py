"""The pytest plugin: fixtures and a marker for creators, and a guard against what tests leave.

pytest loads it wherever the package is installed, so importing it must not import torch, and in
a suite that never uses the package it has next to nothing to do.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, TypeVar

import pytest

from torchcreator.pytest_plugin._guard import Guard, passed
from torchcreator.pytest_plugin._marks import MARKERS, forbids
from torchcreator.pytest_plugin._open_scopes import opened

if TYPE_CHECKING:
    from torchcreator.creators import Ledger
    from torchcreator.testing import FakeCreator

C = TypeVar("C")

_TAKEN_FOR_THE_TEST = (
    "pytest takes a single function as argument of a marker for what is to be marked, and called "
    "the creator with the test.\nPut it into a list: @pytest.mark.creators([creator])."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of the configuration file."""
    parser.addini(
        "torchcreator_strict",
        "Fail a test that leaves a creator scope open or a hook of torchcreator removed, or that "
        "asks for fake_variables and makes none.",
        type="bool",
        default=True,
    )
    parser.addini(
        "torchcreator_creators",
        "Creators for every test, package.module:name each, the outermost first.",
        type="linelist",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, and begin to watch."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    guard = Guard(config)
    config.pluginmanager.register(guard, "torchcreator-guard")
    config.add_cleanup(guard.stop)


def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> None:
    """Find a creator that was marked in place of its test: the test would be gone unnoticed."""
    if not inspect.isfunction(obj) or name.startswith("test"):
        return
    marks = obj.__dict__.get("pytestmark", ())
    if any(mark.name == "creators" and not mark.args for mark in marks):
        message = f"@pytest.mark.creators({name}) marked {name} itself.\n{_TAKEN_FOR_THE_TEST}"
        raise collector.CollectError(message)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Explain the error of a creator that was called with the test."""
    report = yield
    if report.failed and "mark.creators(" in str(report.longrepr):
        report.sections.append(("torchcreator", _TAKEN_FOR_THE_TEST))
    return report


@pytest.fixture
def fake_variables(request: pytest.FixtureRequest) -> Iterator[FakeCreator]:
    """Give every variable made in the test a fake value: no random numbers, time or memory."""
    from torchcreator.testing import FakeCreator

    fake = FakeCreator()
    with opened(fake):
        yield fake
    if passed(request.node) and not fake.made and forbids(request.node, "allow_unused_fakes"):
        pytest.fail(_unused(request.node), pytrace=False)


@pytest.fixture
def recorded_variables() -> Iterator[Ledger]:
    """Write down every variable made in the test, in a ledger to assert on."""
    from torchcreator.testing import RecordingCreator

    recording = RecordingCreator()
    with opened(recording):
        yield recording.ledger


@pytest.fixture
def creator_scopes() -> Iterator[Callable[..., object]]:
    """Open a scope until the end of the test: ``creator_scopes(creator)`` returns the creator."""
    with contextlib.ExitStack() as stack:

        def enter(creator: C, *, modules: bool = True) -> C:
            stack.enter_context(opened(creator, modules=modules))
            return creator

        yield enter


def _unused(item: pytest.Item) -> str:
    return (
        f"{item.nodeid} asked for fake_variables, and no variable was made in it.\n"
        "A model that a module or another fixture made before is real, and as slow as that.\n"
        "Make the model in the test, or in a fixture that asks for fake_variables too.\n"
        "If it is on purpose: @pytest.mark.torchcreator(allow_unused_fakes=True)."
    )
