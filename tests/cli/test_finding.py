"""How the arguments on the command line meet the factory that it names."""

from __future__ import annotations

import pytest

from torchcreator._cli.inspect.finding import UnusableError, read_arguments


def test_a_builtin_takes_what_is_given():
    """Python does not know its signature, so only the call can tell whether they fit."""
    assert read_arguments('[1, {"a": 2}]', max, "builtins:max") == ([1, {"a": 2}], {})
    assert read_arguments('{"key": null}', max, "builtins:max") == ([], {"key": None})
    with pytest.raises(UnusableError, match="do not fit"):
        read_arguments("[1]", lambda: None, "a:b")
