"""Ways of copying and converting a module."""

from __future__ import annotations

import copy
import io
import pickle

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.optim.swa_utils import AveragedModel


def saved(module):
    """Save a whole module and load it."""
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


def assigned(module):
    """Load a state_dict by assignment."""
    module.load_state_dict(copy.deepcopy(module.state_dict()), assign=True)
    return module


def emptied(module):
    """Give a module new memory."""
    module.to_empty(device="cpu")
    for p in module.parameters():
        p.data.fill_(1)
    return module


def through_meta(module):
    """Take a module to the meta device and back."""
    return emptied(module.to("meta"))


def overwriting(module):
    """Convert with torch's switch that replaces the parameter objects."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        return module.double()
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def swapping(module):
    """Convert with torch's switch that swaps what the parameter objects hold."""
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        return module.double().float()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def swapped_tensors(module):
    """Exchange every parameter with a fresh one."""
    for p in module.parameters():
        torch.utils.swap_tensors(p, nn.Parameter(p.detach().clone(), p.requires_grad))
    return module


def parametrized(module):
    """Parametrize a weight and remove that again."""
    parametrizations.spectral_norm(module.body[0])
    parametrize.remove_parametrizations(module.body[0], "weight")
    return module


def weight_normed(module):
    """Normalise a weight and remove that again."""
    parametrizations.weight_norm(module.body[0])
    parametrize.remove_parametrizations(module.body[0], "weight")
    module.body[0]._load_state_dict_pre_hooks.clear()  # torch leaves one that cannot be pickled
    return module


WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "ema": lambda module: AveragedModel(module).module,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "save": saved,
    "to": lambda module: module.to(torch.float64),
    "half": nn.Module.half,
    "double": nn.Module.double,
    "to_empty": emptied,
    "meta": through_meta,
    "assign": assigned,
    "overwrite": overwriting,
    "swap": swapping,
    "swap_tensors": swapped_tensors,
    "share_memory": nn.Module.share_memory,
    "parametrize": parametrized,
    "weight_norm": weight_normed,
    "compile": lambda module: torch.compile(module, backend="eager")._orig_mod,
}


def loaded(parameter):
    """Save a parameter and load it, as torch does by default."""
    stream = io.BytesIO()
    torch.save(parameter, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)
