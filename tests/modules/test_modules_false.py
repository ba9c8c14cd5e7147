"""Scopes that leave stock modules alone, among scopes that do not."""

from __future__ import annotations

import pytest
from torch import nn

import torchcreator as tc
from tests.modules.creators import Own


def test_modules_false_leaves_stock_modules_alone(ledger):
    """With ``modules=False`` only variables pass, also those made in a constructor."""

    class Scale(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.gain = tc.variable([1.0], name="gain")

    with tc.creator_scope(ledger, modules=False):
        module = Scale()
    assert [call["name"] for call in ledger.calls] == ["gain"]
    assert tc.spec_of(module.weight) is None
    assert tc.spec_of(module.gain).name == "gain"


@pytest.mark.parametrize(
    ("nesting", "modules_see", "variables_see"),
    [
        ([True, False], [0], [1, 0]),
        ([False, True], [1], [1, 0]),
        ([True, False, True], [2, 0], [2, 1, 0]),
        ([False, True, False], [1], [2, 1, 0]),
        ([False, False], [], [1, 0]),
        ([True, True], [1, 0], [1, 0]),
    ],
    ids=lambda value: "".join("FT"[v] if isinstance(v, bool) else str(v) for v in value),
)
def test_scopes_of_both_kinds_nest(nesting, modules_see, variables_see):
    """Stock modules pass exactly the scopes that want them, innermost first; variables pass all."""
    log = []

    def marking(mark):
        def creator(next_creator, **kwargs):
            log.append((mark, kwargs["name"]))
            return next_creator(**kwargs)

        return creator

    scopes = [tc.creator_scope(marking(i), modules=m) for i, m in enumerate(nesting)]
    for scope in scopes:
        scope.__enter__()
    Own()
    tc.variable(1.0, name="v")
    for scope in reversed(scopes):
        scope.__exit__(None, None, None)
    assert [mark for mark, name in log if name == "w"] == modules_see
    assert [mark for mark, name in log if name == "v"] == variables_see
