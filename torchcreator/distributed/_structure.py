"""What a model was made of at the last look, compared in a moment."""

from __future__ import annotations

from itertools import chain
from operator import attrgetter, is_not
from typing import Any

from torch import nn

_is_trained = attrgetter("requires_grad")


class Structure:
    """The modules and parameters of a model, and which of them were frozen.

    Comparing goes through no module's ``named_parameters``, which takes a millisecond for every
    few hundred: it reads the dictionaries that modules keep, in C.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        self._children_of = [module._modules for module in modules]
        self._parameters_of = [module._parameters for module in modules]
        self._children = _values(self._children_of)
        self._parameters = _values(self._parameters_of)
        self._frozen = [p for p in self._parameters if p is not None and not p.requires_grad]

    def holds(self) -> bool:
        """Return whether the model is still made of the same, and nothing was thawed."""
        parameters = _values(self._parameters_of)
        return (
            len(parameters) == len(self._parameters)
            and not any(map(is_not, parameters, self._parameters))
            and _values(self._children_of) == self._children
            and not any(map(_is_trained, self._frozen))
        )


def _values(tables: list[Any]) -> list[Any]:
    return list(chain.from_iterable(map(dict.values, tables)))
