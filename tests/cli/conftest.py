"""Models in the working directory, for the command to find."""

from __future__ import annotations

import sys

import pytest

SOURCE = '''
"""Models for the command to find."""

import torch
from torch import nn

import torchcreator as tc


class Net(nn.Module):
    def __init__(self, width=2, depth=2):
        super().__init__()
        print("the model prints")
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        with tc.creator_scope(tc.creators.freeze()):
            self.head = nn.Linear(width, 1)


class Holder:
    Net = Net


def tied():
    model = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 3, bias=False))
    model[1].weight = model[0].weight
    return model


def raising():
    raise ValueError("first line\\nsecond line")


def leaving():
    raise SystemExit(7)


def interrupted():
    raise KeyboardInterrupt


def unbuildable():
    return nn.Linear(2, 2).weight.data_ptr()


def number():
    return 3


def empty():
    return nn.ReLU()


def colourful():
    model = nn.Module()
    model.register_parameter("[red]x[/red]\\x1b[31m", nn.Parameter(torch.ones(1)))
    return model


made = nn.Linear(2, 2)
some = {"no": "factory"}
'''


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Put modules into the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "modelsfortest.py").write_text(SOURCE)
    (tmp_path / "brokenfortest.py").write_text("import nosuchpackage\n")
    (tmp_path / "syntaxfortest.py").write_text("def (:\n")
    yield
    for name in ("modelsfortest", "brokenfortest", "syntaxfortest"):
        sys.modules.pop(name, None)
