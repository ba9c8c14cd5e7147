"""The parameters that an optimizer held at the last look, compared in a microsecond."""

from __future__ import annotations

from operator import is_not

import torch
from torch import nn


class Held:
    """One list of an optimizer's parameters, as it was.

    Args:
        parameters: The list.
    """

    def __init__(self, parameters: list[torch.Tensor]) -> None:
        self.parameters = list(parameters)
        # Lists compare elements by identity first, and only then ask tensors, which for these is
        # an error: the truth of more than one element. Of one element, equal would do.
        self._never_equal = all(type(p) is nn.Parameter and p.numel() > 1 for p in parameters)

    def is_still(self, parameters: list[torch.Tensor]) -> bool:
        """Return whether a list has the same parameters in the same order, by identity."""
        if len(parameters) != len(self.parameters):
            return False
        if not self._never_equal:
            return not any(map(is_not, parameters, self.parameters))
        try:
            return parameters == self.parameters
        except Exception:  # whatever two tensors say that are not the same one
            return False
