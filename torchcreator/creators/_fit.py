"""What is in the files of a checkpoint, and whether it fits what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from torchcreator._errors import CheckpointError, VariableTypeError, did_you_mean, shown
from torchcreator.creators._stored import Stored, StoredValue


class Checkpoint:
    """The tensors of some files, and what they are to be used for."""

    def __init__(
        self,
        stored: dict[str, Stored],
        renamed: Callable[[str], str],
        *,
        strict: bool,
        copy: bool,
        cast: bool,
    ) -> None:
        self.stored = stored
        self.renamed = renamed
        self.strict = strict
        self._copy = copy
        self._cast = cast

    def find(self, names: Sequence[str]) -> list[str]:
        """Return the names in the files of what is called ``names`` here."""
        found = [name for name in map(self._renamed, names) if name in self.stored]
        return [*dict.fromkeys(found)]

    def _renamed(self, name: str) -> str:
        renamed = self.renamed(name)
        if not isinstance(renamed, str):
            raise VariableTypeError(
                f"The rename= of from_checkpoint made {shown(renamed)} of {name!r}.",
                "It turns a variable's name into its name in the files.",
                "Return text; the name itself where it does not differ.",
            )
        return renamed

    def value(self, name: str, dtype: torch.dtype | None) -> StoredValue:
        """Return a tensor of the files, to be read when it is asked for."""
        return StoredValue(self.stored[name], name, dtype, copy=self._copy)

    def misfit(
        self, name: str, shape: Sequence[int] | None, dtype: torch.dtype | None
    ) -> str | None:
        """Return in what a tensor of the files differs from what is wanted."""
        stored = self.stored[name]
        if shape is not None and tuple(stored.shape) != tuple(shape):
            return f"shape {tuple(shape)}, in the file {tuple(stored.shape)}"
        floating = dtype is not None and dtype.is_floating_point and stored.dtype.is_floating_point
        if dtype is not None and stored.dtype != dtype and not (self._cast and floating):
            return f"dtype {dtype}, in the file {stored.dtype}"
        return None


def unfit(
    problems: dict[str, list[str]], checkpoint: Checkpoint, *, plain: bool = False
) -> CheckpointError:
    """Return the error that lists all that does not fit.

    Args:
        problems: The names, by what is wrong with them.
        checkpoint: The files.
        plain: Whether it is a plain scope, where names are local.
    """
    lines = ["The checkpoint and the model do not fit."]
    for title, rows in problems.items():
        if rows:
            lines.append(f"  {title} ({len(rows)}):")
            lines += (f"    {row}" for row in rows)
    missing = problems.get("missing in the files", [])
    hint = did_you_mean(missing[0], checkpoint.stored) if missing else ""
    why = "Every variable takes its value from the tensor of its name, shape and dtype."
    if plain:
        why = "In a plain scope a module's parameters are known by their local names."
    return CheckpointError(
        "\n".join(lines),
        why + (f" {missing[0]!r}{hint}" if hint else ""),
        ("Construct the model with build() or pass it to recreate(); or " if plain else "Pass ")
        + "rename= for other names, strict=False to take what is there, cast=True to convert to "
        "another floating dtype.",
    )
