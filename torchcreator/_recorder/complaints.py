"""What is said where a recorded model's values cannot be made."""

from __future__ import annotations

from torchcreator._errors import BuildError
from torchcreator._recorder.replay import ReplayError
from torchcreator._recorder.tape import Op


def replay_failed(label: str, error: ReplayError) -> BuildError:
    """Return the error for an operation that failed while something's value was made."""
    op, cause = error.op, error.__cause__
    reason = str(cause).partition("\n")[0]
    return BuildError(
        f"Replaying {op.name} for {label!r} failed; it was called at {op.line}.",
        f"{type(cause).__name__}: {reason}",
        "Construct the model without build() to see whether the constructor itself fails; "
        "if it does not, do this after build(), or give the parameter a value by a creator.",
    )


def not_initialised(label: str, empty: Op) -> BuildError:
    """Return the error for a parameter that holds what the memory held that it was given."""
    return BuildError(
        f"Parameter {label!r} is not initialised; {empty.name} was called at {empty.line}.",
        "Its constructor leaves it, or part of it, as the memory was found: garbage.",
        "Initialise it in the constructor, or set initial_value in a creator.",
    )
