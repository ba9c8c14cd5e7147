"""A small sample of what `tests.conformance.sweep` tries: models that others wrote."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from tests.conformance import sweep

NUMBER = {"transformers": 6, "timm": 2, "peft": 3, "x_transformers": 2, "e3nn": 2}
"""How many of each library, where it is installed; its own command tries all."""


def sampled():
    """Return the sample: the same models each time, as long as the libraries are."""
    found = [library for library in NUMBER if importlib.util.find_spec(library) is not None]
    return [
        pytest.param(library, factory, id=f"{library}-{name}".replace(" ", "-"))
        for library in found
        for name, factory in sweep.sample(library, NUMBER[library])
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("library", "factory"), sampled())
def test_others_models_are_built_exactly(library, factory):
    """Values, layouts, ties and the generator's state are those of plain construction."""
    result, word = sweep.outcome(factory, sized=library in sweep.SIZED)
    if result in (sweep.PLAIN, sweep.LARGE):
        pytest.skip(word)
    assert result == sweep.EXACT, word


def test_what_is_refused_or_differs_is_told():
    """Each kind of outcome is recognised."""

    def uninitialised():
        module = torch.nn.Module()
        module.weight = torch.nn.Parameter(torch.empty(3))
        return module

    drawn = iter(range(100))
    assert sweep.outcome(lambda: torch.nn.Linear(2, 2)) == (sweep.EXACT, "")
    assert sweep.outcome(uninitialised)[0] == sweep.REFUSED
    assert sweep.outcome(lambda: torch.nn.Linear(2))[0] == sweep.PLAIN
    assert sweep.outcome(lambda: torch.nn.Linear(10_000, 10_000))[0] == sweep.LARGE
    assert sweep.outcome(lambda: torch.nn.Linear(2, 2 + next(drawn)))[0] == sweep.PLAIN
