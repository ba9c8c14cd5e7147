"""The situations that a creator may be asked in, and what is wrong with some answers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from torchcreator._api import creator_scope, recreate, variable
from torchcreator._chain.initial_value import wanted
from torchcreator._chain.open_scopes import closed, current
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._torch.tensors import wraps_others


def _tensor() -> str:
    """Asked for a variable with a tensor as value."""
    value = torch.ones(2, 3)
    variable(value, name="gain")
    return "" if torch.equal(value, torch.ones(2, 3)) else "it changes the caller's tensor"


def _number() -> str:
    """Asked for a variable with a number as value."""
    variable(1.0, name="gain")
    return ""


def _lazy() -> str:
    """Asked for a variable with a function as value."""
    early: list[bool] = []

    def value() -> torch.Tensor:
        early.append(wanted() is None)
        return torch.ones(2, 3)

    variable(value, shape=(2, 3), dtype=torch.float32, name="gain")
    if any(early):
        return (
            "it calls initial_value itself, which computes what a creator further out may not "
            "need; wrap it, lambda: initial_value() * 2, say"
        )
    return ""


def _initialiser() -> str:
    """Asked for a variable with an initialiser of torch.nn.init."""
    shape = [2, 3]
    variable(nn.init.ones_, shape=shape, name="gain")
    return "" if shape == [2, 3] else "it changes the caller's shape"


def _nameless() -> str:
    """Asked for a variable without a name."""
    variable(torch.ones(2))
    return ""


def _counter() -> str:
    """Asked for an integer variable, one that has no gradient."""
    variable(torch.zeros(2, dtype=torch.int64), name="steps")
    return ""


def _per_rank() -> str:
    """Asked for a variable with policies."""
    variable(
        torch.zeros(2),
        name="seen",
        trainable=False,
        synchronization=VariableSynchronization.ON_READ,
        aggregation=VariableAggregation.SUM,
    )
    return ""


def _tagged() -> str:
    """Asked for a variable with tags."""
    tags = {"role": "gain"}
    variable(torch.ones(2), name="gain", tags=tags)
    return "" if tags == {"role": "gain"} else "it changes the caller's tags"


def _shapeless() -> str:
    """Asked for a variable of unknown shape."""
    variable(validate_shape=False, name="later")
    return ""


def _stock() -> str:
    """Asked for the parameters of a stock module."""
    layer = nn.Linear(3, 2)
    shapes = [tuple(p.shape) for p in layer.parameters()]
    return "" if shapes == [(2, 3), (2,)] else f"shapes (2, 3) and (2,) become {shapes}"


def _two_layers() -> str:
    """Asked for the parameters of two layers in a plain scope."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    if model[0].weight is not model[1].weight:
        return ""
    return (
        "it ties layers that have nothing to do with each other: their names are local there, "
        '"weight" and "weight"'
    )


class _Late(nn.Module):
    """Registers a parameter first and initialises it after, as stock modules do."""

    BEGINS_WITH = 0.625

    def __init__(self, memory: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3, 2), memory))  # as torch.empty finds some
        self.found = self.weight.detach().clone()
        nn.init.constant_(self.weight, self.BEGINS_WITH)


def _uninitialised() -> str:
    """Asked for a parameter that its module initialises later."""
    spoilt, layer = _Late(torch.nan), _Late(3.0)
    if any(weight.is_meta or wraps_others(weight) for weight in (spoilt.weight, layer.weight)):
        return ""
    # Integers made of NaN are some number, another one than those made of 3.
    levels = not spoilt.weight.is_floating_point()
    if spoilt.weight.isnan().any() or (levels and not torch.equal(spoilt.weight, layer.weight)):
        return (
            "it computes on what next_creator returned, which has no value yet: garbage becomes "
            "the weight; set initial_value, or construct with build()"
        )
    initialised = bool((layer.weight == _Late.BEGINS_WITH).all())
    if initialised and not bool((layer.found == 3.0).all()):
        return (
            "it writes to what next_creator returned, and the module initialises it after: what "
            "it writes is lost; set initial_value, or construct with build()"
        )
    return ""


class _Marked(nn.Parameter):
    """A parameter of a class of its own."""


def _subclass() -> str:
    """Asked for a parameter of a class of its own."""
    module = nn.Module()
    module.register_parameter("weight", _Marked(torch.ones(3, 2)))
    made = module.get_parameter("weight")
    if isinstance(made, _Marked) or made.is_meta or wraps_others(made):
        return ""
    if made.dtype != torch.float32:  # quantised, say: something else on purpose
        return ""
    return f"a subclass of Parameter becomes a {type(made).__name__}"


def _loaded() -> str:
    """Asked for parameters that are loaded in the same scope."""
    layer = nn.Linear(3, 2)
    if any(p.is_meta or wraps_others(p) or tuple(p.shape)[:1] != (2,) for p in layer.parameters()):
        return ""
    state = {name: torch.full_like(p, 3) for name, p in layer.state_dict().items()}
    layer.load_state_dict(state)
    if all(torch.equal(value, state[name]) for name, value in layer.state_dict().items()):
        return ""
    return "what is loaded is not there"


def _tied() -> str:
    """Asked for the parameters of a module that ties two of them."""
    model = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 3, bias=False))
    tied = model[0].weight = model[1].weight
    return "" if model[0].weight is tied else "it unties them"


def _lazy_module() -> str:
    """Asked for the parameters of a lazy module."""
    nn.LazyLinear(2)
    return ""


def _finished() -> str:
    """Asked for the parameters of a finished model."""
    with closed():
        layer = nn.Linear(3, 2)
    recreate(layer)
    shapes = [tuple(p.shape) for p in layer.parameters()]
    return "" if shapes == [(2, 3), (2,)] else f"shapes (2, 3) and (2,) become {shapes}"


def _twice() -> str:
    """Asked twice in one chain."""
    link = current.get()
    assert link is not None
    with creator_scope(link.creator):
        variable(torch.ones(2), name="gain")
        nn.Linear(3, 2)
    return ""


SITUATIONS: tuple[Callable[[], str], ...] = (
    _tensor,
    _number,
    _lazy,
    _initialiser,
    _nameless,
    _counter,
    _per_rank,
    _tagged,
    _shapeless,
    _stock,
    _two_layers,
    _uninitialised,
    _subclass,
    _loaded,
    _tied,
    _lazy_module,
    _finished,
    _twice,
)
"""What a creator may be asked for; each returns what is wrong with the answer, or nothing."""
