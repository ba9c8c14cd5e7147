"""Give every tensor of a recorded model its value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from torchcreator._build.ask_creators import create_parameters
from torchcreator._build.context import under_way
from torchcreator._build.progress import bar
from torchcreator._build.sharded_parameter import Shards
from torchcreator._call_site import warn
from torchcreator._chain.default import default_creator
from torchcreator._chain.scope import current_chain
from torchcreator._errors import BuildError
from torchcreator._recorder.live_tensors import (
    Gradient,
    Objects,
    gradients_of,
    named_tensors,
    put_gradients,
    replace,
)
from torchcreator._recorder.recording import Recording, share
from torchcreator._torch.dispatch import no_function_modes
from torchcreator._torch.modules import joined, paths
from torchcreator._torch.tensors import exchange, moved_shell, wraps_others


@under_way
def fill(
    model: nn.Module, recording: Recording, objects: Objects, shards: Shards | None = None
) -> None:
    """Make a recorded model real, in place: its tensors whole, or this rank's parts of them.

    Args:
        model: The model, on meta.
        recording: Where its values come from.
        objects: Every recorded tensor object, by storage; emptied.
        shards: Those of its tensors of which this rank has a part.
    """
    try:
        _fill(model, recording, objects, shards)
    except BaseException:
        recording.draws.put_back()
        raise


def _fill(model: nn.Module, recording: Recording, objects: Objects, shards: Shards | None) -> None:
    modules = list(model.modules())
    scripted = list(_held_by_script(modules))
    gradients = gradients_of(objects)
    chain = current_chain(default_creator)
    if chain is not default_creator:
        recording.draws.finish()  # what creators draw comes after that
        create_parameters(model, recording, objects, chain, shards)
    if shards is not None:
        shards.fill()
    plain, normal = no_function_modes(), torch.inference_mode(False)
    with bar("making the values", len(objects)) as advance, normal, torch.no_grad(), plain:
        refs = [tensors[0][1] for tensors in objects.values()]
        for ref, value in recording.values_here(refs):
            tensors = objects.pop(ref.storage)
            if len(tensors) == 1 and not tensors[0][0].is_inference():  # nearly always
                replace(tensors[0][0], value)
            else:
                share(recording, tensors, value.untyped_storage())
            advance()
    for held, name, tensor in scripted:
        held[name] = tensor
    if recording.original is not None:  # it was deferred, and may have been copied
        _move_shells(model)
    put_gradients(_still_theirs(gradients, recording))
    _check_filled(model, modules, recording)
    if shards is not None:
        shards.finish(model)
    _flatten(modules)


def _still_theirs(gradients: list[Gradient], recording: Recording) -> Iterator[Gradient]:
    """Yield the gradients of tensors that creators left in place; warn of the others."""
    for found in gradients:
        if id(found.tensor) == found.before:
            yield found
            continue
        name = recording.label(found.storage)
        warn(
            f"A creator answered with another parameter for {name!r}, which had a gradient.",
            "A backward in the constructor left it, for the value that the constructor gave.",
            "Set initial_value instead, or run the backward after build().",
        )


def _held_by_script(modules: list[nn.Module]) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Yield what scripted modules hold: in C++, where no tensor object can be exchanged."""
    for module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            yield from ((module._parameters, *item) for item in module._parameters.items())
            yield from ((module._buffers, *item) for item in module._buffers.items())


def _move_shells(model: nn.Module) -> None:
    """Let what wraps other tensors be where those are: a copy was made while they were on meta."""
    with no_function_modes():
        for _, tensor, _ in named_tensors(model):
            if tensor.is_meta and wraps_others(tensor):
                inner = [v for v in vars(tensor).values() if isinstance(v, torch.Tensor)]
                if inner and not any(part.is_meta for part in inner):
                    exchange(tensor, moved_shell(tensor, inner[0].device))


def _flatten(modules: list[nn.Module]) -> None:
    """Let cuDNN have the weights of recurrent modules in one piece, as their constructors do."""
    for module in modules:
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()


def _check_filled(model: nn.Module, modules: list[nn.Module], recording: Recording) -> None:
    for owner in modules:
        for local, tensor in (*owner._parameters.items(), *owner._buffers.items()):
            # One that is not recorded is on meta on purpose.
            if tensor is not None and recording.storage_of(tensor) is not None:
                path = next(path for path, module in paths(model) if module is owner)
                raise BuildError(
                    f"{joined(path, local)} still has no memory.",
                    "Something holds it where torch offers no way to exchange it.",
                    "Construct this model without build().",
                )
