"""Ways in which a constructor writes to its parameters."""

from __future__ import annotations

import torch
from torch import nn


def constant(value):
    """A creator that gives every parameter one value, unless an inner one gave it another."""

    def creator(next_creator, **kwargs):
        if kwargs["module"] is not None and kwargs["initial_value"] is None:
            kwargs["initial_value"] = torch.full(kwargs["shape"], value, dtype=kwargs["dtype"])
        return next_creator(**kwargs)

    return creator


def write(how):
    """A module whose constructor writes to its two parameters in some way."""

    class Writing(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(3, 3))
            self.free = torch.zeros(3, 3)  # not a parameter: what is written there lands
            with torch.no_grad():
                how(self)

    return Writing


def all_through(name, *args):
    """Call an in-place method on the parameter and on the free tensor."""
    return lambda m: (getattr(m.w, name)(*args), getattr(m.free, name)(*args))


WRITES = {
    "normal_": all_through("normal_"),
    "fill_": all_through("fill_", 3.0),
    "zero_": lambda m: (m.w.zero_(), m.free.fill_(3.0)),
    "copy_": lambda m: (m.w.copy_(torch.full((3, 3), 3.0)), m.free.fill_(3.0)),
    "data": lambda m: (m.w.data.normal_(), m.free.data.normal_()),
    "detach": lambda m: (m.w.detach().fill_(3.0), m.free.fill_(3.0)),
    "augmented": lambda m: (m.w.mul_(0), m.free.add_(3.0)),
    "setitem": lambda m: (m.w.__setitem__(0, 3.0), m.free.__setitem__(slice(None), 3.0)),
    "view": lambda m: (m.w.view(-1)[2:5].fill_(3.0), m.free.view(-1).fill_(3.0)),
    "transpose": lambda m: (m.w.t().uniform_(2, 3), m.free.t().uniform_(2, 3)),
    "diagonal": lambda m: (m.w.diagonal().fill_(3.0), m.free.diagonal().fill_(3.0)),
    "chunk": lambda m: [c.fill_(3.0) for c in (*m.w.chunk(3), *m.free.chunk(3))],
    "out": lambda m: [torch.add(torch.ones(3, 3), 2.0, out=t) for t in (m.w, m.free)],
    "out-of-factory": lambda m: [torch.ones(3, 3, out=t) for t in (m.w, m.free)],
    "init.xavier": lambda m: [nn.init.xavier_uniform_(t) for t in (m.w, m.free)],
    "init.kaiming": lambda m: [nn.init.kaiming_normal_(t) for t in (m.w, m.free)],
    "init.trunc_normal": lambda m: [nn.init.trunc_normal_(t) for t in (m.w, m.free)],
    "init.orthogonal": lambda m: [nn.init.orthogonal_(t) for t in (m.w, m.free)],
    "init.eye": lambda m: [nn.init.eye_(t) for t in (m.w, m.free)],
    "init.sparse": lambda m: [nn.init.sparse_(t, 0.3) for t in (m.w, m.free)],
    "foreach-add": lambda m: torch._foreach_add_([m.w, m.free], 3.0),
    "foreach-copy": lambda m: torch._foreach_copy_([m.free, m.w], [torch.ones(3, 3)] * 2),
    "foreach-zero": lambda m: (torch._foreach_zero_([m.w]), m.free.fill_(3.0)),
    "foreach-lists": lambda m: torch._foreach_addcmul_(
        [m.w, m.free], [torch.ones(3, 3)] * 2, [torch.ones(3, 3)] * 2, value=3.0
    ),
    "foreach-scalars": lambda m: torch._foreach_add_([m.w, m.free], [1.0, 2.0]),
    "index_put_": lambda m: [
        t.index_put_((torch.arange(3),), torch.ones(3)) for t in (m.w, m.free)
    ],
    "index_fill_": lambda m: [t.index_fill_(0, torch.arange(3), 3.0) for t in (m.w, m.free)],
    "masked_fill_": lambda m: [t.masked_fill_(t > -1, 3.0) for t in (m.w, m.free)],
    "scatter_": lambda m: [
        t.scatter_(0, torch.zeros(1, 3, dtype=torch.long), 3.0) for t in (m.w, m.free)
    ],
}
