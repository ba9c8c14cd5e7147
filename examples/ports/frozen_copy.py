"""slippi-ai, ``slippi_ai/tf_utils.py``: a copy of a network that is never trained.

The creator stands as it was written. The copy gets the values of the network it is a copy of.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from typing_extensions import Unpack

import torchcreator as tc


def non_trainable_creator(
    next_creator: tc.NextCreator, **kwargs: Unpack[tc.VariableKwargs]
) -> nn.Parameter:
    """Force what is made to be no variable of the optimizer."""
    kwargs["trainable"] = False
    return next_creator(**kwargs)


non_trainable_scope = tc.creator_scope(non_trainable_creator)


def teacher_of(factory: Callable[[], nn.Module], student: nn.Module) -> nn.Module:
    """Return a frozen copy of a student."""
    teacher = non_trainable_scope(factory)()  # a scope also decorates
    teacher.load_state_dict(student.state_dict())
    return teacher


if __name__ == "__main__":
    student = nn.Linear(2, 3)
    print([p.requires_grad for p in teacher_of(lambda: nn.Linear(2, 3), student).parameters()])
