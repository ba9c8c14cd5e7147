"""A message of ours, of three parts."""

from __future__ import annotations

import pytest

from torchcreator import _errors

TYPE, VALUE = _errors.VariableTypeError, _errors.VariableValueError


def message_of(kind, make):
    with pytest.raises(kind, match=r"(?s)^.+\n.+\n.+$") as caught:
        make()
    assert len([part for part in caught.value.args if part]) == 3
    return str(caught.value)
