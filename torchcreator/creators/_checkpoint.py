"""The creator that takes initial values out of checkpoint files."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from typing_extensions import Unpack

from torchcreator._build.context import Building, building
from torchcreator._errors import CheckpointError, VariableTypeError, shown
from torchcreator._spec.types import Creator, NextCreator, VariableKwargs
from torchcreator._torch.modules import joined, paths, saved_as, without_wrappings
from torchcreator.creators._choice import Conditions, ready
from torchcreator.creators._fit import Checkpoint, unfit
from torchcreator.creators._tensor_files import open_files

Renaming: TypeAlias = Callable[[str], str] | Mapping[str, str] | None


def from_checkpoint(
    path: str | Path | Sequence[str | Path] | Mapping[str, Any],
    *,
    key: str | None = None,
    rename: Renaming = None,
    strict: bool = True,
    copy: bool = False,
    cast: bool = False,
    **chosen: Unpack[Conditions],
) -> Creator:
    """Begin with the values of a checkpoint, found by name.

    Under `build` and `recreate`, names are full, persistent buffers are read too, and what is
    missing, unexpected or of another shape or dtype is one error at the end that lists all of it.
    In a plain scope a module's parameters are known by local names only: that serves for one
    module, with ``rename``; a name that is asked for twice is refused. A tied parameter takes its
    value from any of its names.

    Of a sharded model each rank reads its own part: rows are pages of the file, and of columns no
    more is read than the rows they are in. A file that was changed or replaced since is an error,
    until the model is handed out.

    A finished model's parameters keep their memory, and values are copied there. Otherwise, on the
    CPU, parameters are the file's pages, mapped into memory, so that loading costs neither time nor
    memory; the pages are private, and copied where they are written to. Do not change the file
    while they live: overwriting it in place changes parameters, and truncating it kills the
    process. ``copy=True`` reads the values into memory of their own.

    Args:
        path: A ``.safetensors`` file, an index of shards, a directory in transformers' layout, a
            list of those; or a file of `torch.save`, read with ``weights_only=True`` and in no
            other way. Or a mapping of names to tensors, ``model.state_dict()`` say, whose values
            are copied.
        key: Where in a file of `torch.save`, or in a mapping, the tensors are, if there is
            something around them: ``"model"``, say.
        rename: A variable's name to its name in the files: a function, or a mapping of those that
            differ.
        strict: Whether every variable has to be in the files, and everything in them has to be
            used; and whether conditions that nothing meets are an error. Shapes and dtypes have to
            fit in any case.
        copy: Whether to copy values out of the files.
        cast: Whether values of another floating dtype are converted to that of their variable, as
            they are read; else they are an error.
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, as in `where`.

    Raises:
        CheckpointError: A file is missing or damaged, which is found out here, before any
            parameter is made; or, as variables are made, names, shapes or dtypes do not fit.

    Example:
        >>> import tempfile, torch
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> path = tempfile.mktemp(suffix=".pt")
        >>> torch.save({"weight": torch.ones(1, 2), "bias": torch.zeros(1)}, path)
        >>> with tc.creator_scope(tc.creators.from_checkpoint(path)):
        ...     layer = nn.Linear(2, 1)
        >>> layer.weight.tolist()
        [[1.0, 1.0]]
    """
    _refuse_other_than_bool(strict=strict, copy=copy, cast=cast)
    if key is not None and not isinstance(key, str):
        raise VariableTypeError(
            f"from_checkpoint got key={shown(key)}.",
            "It is the name under which a file has its tensors, beside other things.",
            "Pass key='model', say, or leave it out.",
        )
    renamed = _renaming(rename)
    checkpoint = Checkpoint(open_files(path, key), renamed, strict=strict, copy=copy, cast=cast)
    loads: weakref.WeakKeyDictionary[Building, _Load] = weakref.WeakKeyDictionary()
    plain = _PlainLoad(checkpoint)

    word = f"<{len(path)} names>" if isinstance(path, Mapping) else repr(str(path))

    @ready("from_checkpoint", word, choice={**chosen, "strict": strict})
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        this = building.get()
        if this is None:
            return plain.create(next_creator, kwargs)
        if this not in loads:
            loads[this] = _Load(checkpoint, this)
        return loads[this].create(next_creator, kwargs)

    return creator


class _Load:
    """One build that takes its values from a checkpoint."""

    def __init__(self, checkpoint: Checkpoint, this: Building) -> None:
        self._checkpoint = checkpoint
        self._model = weakref.ref(this.model)
        self._used: set[str] = set()
        self._owners: set[int] = set()
        self._asked = 0
        self._missing: list[str] = []
        self._misfits: list[str] = []
        this.at_end.append(self.finish)

    def create(self, next_creator: NextCreator, kwargs: VariableKwargs) -> nn.Parameter:
        """Make one variable with its value from the files; keep a problem for the end."""
        names = _names(kwargs)
        found = self._checkpoint.find(names)
        self._used.update(found)
        self._owners.add(id(kwargs.get("module")))
        self._asked += 1
        if not found and self._checkpoint.strict:
            self._missing.append(names[0])
        elif found:
            problem = self._checkpoint.misfit(found[0], kwargs.get("shape"), kwargs.get("dtype"))
            if problem is not None:
                self._misfits.append(f"{names[0]}: {problem}")
            else:
                kwargs["initial_value"] = self._checkpoint.value(found[0], kwargs.get("dtype"))
        if self._missing or self._misfits:
            kwargs["device"] = "meta"  # this will be an error: spend nothing on what follows
        return next_creator(**kwargs)

    def finish(self) -> None:
        """Read the buffers, and raise if anything did not fit."""
        model = self._model()
        assert model is not None  # the build that calls this holds it
        buffers = list(self._buffers(model))
        for name, found, buffer in buffers:
            shape = None if is_lazy(buffer) else buffer.shape
            problem = self._checkpoint.misfit(found, shape, buffer.dtype)
            if problem is not None:
                self._misfits.append(f"{name}: {problem}")
        unexpected = sorted(set(self._checkpoint.stored) - self._used)
        problems = {
            "missing in the files": self._missing,
            "not fitting": self._misfits,
            "unexpected in the files": unexpected if self._checkpoint.strict else [],
        }
        if any(problems.values()):
            raise unfit(problems, self._checkpoint)
        for _, found, buffer in buffers:
            self._checkpoint.value(found, buffer.dtype).read_into(buffer)
        for found in self._used:
            self._checkpoint.stored[found].check()  # what was mapped is read later

    def _buffers(self, model: nn.Module) -> Iterator[tuple[str, str, torch.Tensor]]:
        """Yield the persistent buffers that the files have, with their name here and there.

        Those that they should have are missing.
        """
        if next(model.buffers(), None) is None:
            return  # a state_dict of a large model takes a while
        state = model.state_dict(keep_vars=True)
        complete = self._asked == sum(1 for _ in model.parameters())
        for path, module in paths(model):
            for local, buffer in module.named_buffers(recurse=False):
                name = saved_as(joined(path, local))
                if state.get(name) is not buffer:  # not persistent
                    continue
                found = self._checkpoint.find([name, without_wrappings(name)])
                self._used.update(found)
                if found:
                    yield name, found[0], buffer
                elif self._checkpoint.strict and (complete or id(module) in self._owners):
                    self._missing.append(name)


class _PlainLoad:
    """A plain scope, where a module's parameters are known by local names."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._used: set[str] = set()

    def create(self, next_creator: NextCreator, kwargs: VariableKwargs) -> nn.Parameter:
        """Make one variable with its value from the files, or raise at once."""
        name = kwargs.get("name") or "Variable"
        found = self._checkpoint.find([name])
        if not found:
            if self._checkpoint.strict:
                raise unfit({"missing in the files": [name]}, self._checkpoint, plain=True)
            return next_creator(**kwargs)
        problem = self._checkpoint.misfit(found[0], kwargs.get("shape"), kwargs.get("dtype"))
        if problem is not None:
            misfits = [f"{name}: {problem}"]
            raise unfit({"not fitting": misfits}, self._checkpoint, plain=True)
        if found[0] in self._used:
            raise CheckpointError(
                f"from_checkpoint() was asked for {found[0]!r} twice in a plain scope.",
                "Parameters of different modules have the same local name there.",
                "Construct the model with build(), or pass it to recreate(): they know full names.",
            )
        self._used.add(found[0])
        kwargs["initial_value"] = self._checkpoint.value(found[0], kwargs.get("dtype"))
        return next_creator(**kwargs)


def _names(kwargs: VariableKwargs) -> tuple[str, ...]:
    tied: tuple[str, ...] = (kwargs.get("tags") or {}).get("names", ())
    return tied or (kwargs.get("name") or "Variable",)


def _refuse_other_than_bool(**options: object) -> None:
    for name, value in options.items():
        if not isinstance(value, bool):
            raise VariableTypeError(
                f"from_checkpoint got {name}={shown(value)}.",
                "It is asked for or it is not.",
                "Pass True or False.",
            )


def _renaming(rename: Any) -> Callable[[str], str]:
    if rename is None:
        return lambda name: name
    if isinstance(rename, Mapping):
        return lambda name: rename.get(name, name)
    if callable(rename):
        return rename  # type: ignore[no-any-return]
    raise VariableTypeError(
        f"from_checkpoint got rename={shown(rename)}.",
        "It turns a variable's name into its name in the files.",
        "Pass a function or a mapping, rename=lambda name: f'model.{name}', say.",
    )
