"""Models to inspect, and creators to inspect them under."""

from __future__ import annotations

import torch
from torch import nn

import torchcreator as tc


def frozen(next_creator, **kwargs):
    kwargs["trainable"] = False
    return next_creator(**kwargs)


def bounded(next_creator, **kwargs):
    kwargs["constraint"] = tc.constraints.MaxNorm(1.0)
    return next_creator(**kwargs)


def summed(next_creator, **kwargs):
    return next_creator(**{**kwargs, "aggregation": "sum"})


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


def answering(next_creator, **kwargs):
    return nn.Parameter(torch.zeros(kwargs["shape"]), requires_grad=False)


class Tied(nn.Module):
    """An embedding whose weight is the head's, too."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10)
        self.head.weight = self.embedding.weight


class Scoped(nn.Module):
    """A model that opens scopes of its own."""

    def __init__(self):
        super().__init__()
        with tc.creator_scope(frozen):
            self.first = nn.Linear(2, 3)
            with tc.creator_scope(bounded):
                self.second = nn.Linear(3, 3)
        self.gain = tc.variable([1.0], name="gain", aggregation="sum", tags={"decay": False})


class Block(nn.Module):
    """A layer of a model like Llama."""

    def __init__(self, width, hidden, keys):
        super().__init__()
        self.q, self.o = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(width, keys, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)
        self.before, self.after = nn.RMSNorm(width), nn.RMSNorm(width)


class Llama(nn.Module):
    """The shape of a language model with 70 billion parameters."""

    def __init__(self, layers=80, width=8192, hidden=28672, keys=1024, words=128256):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.layers = nn.ModuleList(Block(width, hidden, keys) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, words, bias=False)


class Hostile(nn.Module):
    """A model whose names and tags would do harm where they are not escaped."""

    def __init__(self):
        super().__init__()
        tags = {"<img src=x onerror=alert(1)>": "</td><script>alert(2)</script>"}
        value = tc.variable([1.0], name="x", tags=tags)
        self.register_parameter("<script>alert('\x1b[31m')</script>\n", value)
