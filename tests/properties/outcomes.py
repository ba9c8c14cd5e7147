"""What has to hold after any call: a right result, or an error of ours and nothing half done."""

from __future__ import annotations

import traceback
from operator import length_hint

from torchcreator._chain import open_scopes
from torchcreator._spec import table

NAME = "a_name_to_be_found"


def state():
    """Return everything that a variable leaves behind besides itself."""
    counters = open_scopes.process_names._numbers
    given = {name: length_hint(numbers) for name, numbers in counters.items()}
    return open_scopes.current.get(), given, len(table._live)


def is_the_callers_own(error):
    """Return whether an error came out of an initial value that is a function, or out of a module.

    These pass as they are: ``nn.Linear(2, 3, dtype=torch.int64)`` raises what torch says of it.
    """
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame.name for frame in frames if "/torchcreator/" in frame.filename]
    called = bool(ours) and ours[-1] in ("_called", "__call__")
    return called or any(frame.name == "reset_parameters" for frame in frames)


def check_message(error, name):
    """An error of ours has three parts, is not endless, and names the variable."""
    text = str(error)
    assert len([part for part in error.args if part]) == 3, text
    assert len(text) < 2000
    assert name in text
