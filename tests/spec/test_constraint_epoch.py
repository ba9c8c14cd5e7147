"""Who waits for the first constrained variable."""

from __future__ import annotations

import torchcreator as tc
from torchcreator import constraints
from torchcreator._spec import spec


def test_a_listener_that_comes_late_is_called_at_once() -> None:
    """It is called once, whether the first constrained variable is still to come or is there."""
    tc.variable(1.0, constraint=constraints.NonNeg())
    called = []
    spec.on_first_constraint(lambda: called.append(True))
    tc.variable(1.0, constraint=constraints.NonNeg())
    assert called == [True]
