"""What a test's markers and the configuration say."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

MARKERS = (
    "creators(*creators, modules=True): open a creator_scope for each around the test, the first "
    "outermost. A creator is a callable, 'package.module:name', or a list of these. pytest takes "
    "a single function for what is to be marked: put it into a list.",
    "torchcreator(*, allow_open_scopes=False, allow_changed_hooks=False, "
    "allow_unused_fakes=False): what this test may leave behind.",
)
_ALLOWANCES = ("allow_open_scopes", "allow_changed_hooks", "allow_unused_fakes")


def asked(item: pytest.Item) -> Iterator[tuple[Any, bool]]:
    """Yield each creator for a test, and whether it wants stock modules; the outermost first."""
    for name in item.config.getini("torchcreator_creators"):
        yield _resolved(name), True
    for mark in reversed(list(item.iter_markers("creators"))):
        modules = _keywords(mark, ("modules",)).get("modules", True)
        creators = list(_flat(mark.args))
        if not creators:
            message = (
                f"{item.nodeid} is marked @pytest.mark.creators without a creator.\n"
                "Nothing would be asked.\n"
                "Write @pytest.mark.creators([creator])."
            )
            pytest.fail(message, pytrace=False)
        for creator in creators:
            yield _resolved(creator), modules


def forbids(item: pytest.Item, allowance: str) -> bool:
    """Return whether neither the configuration nor a marker of the test allows something."""
    for mark in item.iter_markers("torchcreator"):
        keywords = _keywords(mark, _ALLOWANCES)
        if allowance in keywords:
            return not keywords[allowance]
    return bool(item.config.getini("torchcreator_strict"))


def _keywords(mark: pytest.Mark, known: tuple[str, ...]) -> dict[str, Any]:
    for word in mark.kwargs:
        if word not in known:
            from torchcreator._errors import did_you_mean  # difflib: half of the plugin's start

            message = (
                f"@pytest.mark.{mark.name} got an unexpected keyword {word!r}"
                f"{did_you_mean(word, known)}.\nIt takes {', '.join(known)}."
            )
            pytest.fail(message, pytrace=False)
    return dict(mark.kwargs)


def _flat(creators: Iterable[Any]) -> Iterator[Any]:
    for creator in creators:
        if isinstance(creator, (list, tuple)):
            yield from creator
        else:
            yield creator


def _resolved(creator: Any) -> Any:
    """Return the creator that a name stands for, made anew for each test if that is a class."""
    if isinstance(creator, str):
        try:
            creator = pkgutil.resolve_name(creator)
        except (ImportError, AttributeError, ValueError) as error:
            message = f"The creator {creator!r} cannot be found: {error}."
            pytest.fail(f"{message}\nWrite 'package.module:name'.", pytrace=False)
    creator = creator() if inspect.isclass(creator) else creator
    if not callable(creator):
        message = f"@pytest.mark.creators got {creator!r}, which is not callable.\n"
        message += "It is called as creator(next_creator, **kwargs) for each variable.\n"
        pytest.fail(f"{message}Pass a creator, or 'package.module:name' of one.", pytrace=False)
    return creator
