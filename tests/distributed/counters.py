"""A model of values that differ from rank to rank."""

from __future__ import annotations

from torch import nn

import torchcreator as tc


class Counters(nn.Module):
    """Rank r holds r + 1 in each variable; the floats also a half."""

    def __init__(self, rank):
        super().__init__()
        value = rank + 1
        self.total = on_read(value + 0.5, "sum")
        self.count = on_read(value, "sum")
        self.average = on_read(value + 0.5, "mean")
        self.first = on_read(value, "only_first_replica")
        self.expert = tc.variable([float(value)], synchronization="none")
        self.shared = tc.variable([7.0], aggregation="sum")
        self.alias = self.count

    def numbers(self):
        return {name: p.item() for name, p in self.named_parameters(remove_duplicate=False)}

    def readings(self):
        names = ("total", "count", "average", "first")
        return {name: tc.read_value(getattr(self, name)).item() for name in names}


def on_read(value, aggregation):
    return tc.variable(value, synchronization="on_read", aggregation=aggregation)


READ = {"total": 4.0, "count": 3, "average": 2.0, "first": 1}
