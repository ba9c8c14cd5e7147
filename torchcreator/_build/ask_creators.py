"""Send the parameters of a recorded model through the creators, under their full names."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from torchcreator._build.progress import bar
from torchcreator._build.recorded_parameter import RecordedTarget, ask
from torchcreator._build.references import take_over
from torchcreator._build.sharded_parameter import Shards
from torchcreator._chain.target import Target
from torchcreator._recorder.live_tensors import Objects, put_data, replace
from torchcreator._recorder.recording import Recording, share
from torchcreator._recorder.tape import Ref
from torchcreator._spec.held import Held, held_by
from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.table import OWN, declare
from torchcreator._spec.types import NextCreator
from torchcreator._torch.dispatch import no_function_modes
from torchcreator._torch.modules import without_wrappings


class _Creation:
    """One pass over the parameters of a model."""

    def __init__(
        self, model: nn.Module, recording: Recording, objects: Objects, shards: Shards | None
    ) -> None:
        self.model = model
        self.recording = recording
        self._objects = objects
        self._shards = shards
        self._memory: dict[int, torch.UntypedStorage] = {}  # of storages that several share

    def run(self, chain: NextCreator) -> None:
        """Call the creators once for each parameter, in the order of ``named_parameters``."""
        take_over(self._replaced(chain))

    def _replaced(self, chain: NextCreator) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Call the creators; return what they refused, held by nothing of ours, and what is there.

        Where something else holds it, that has to be looked for in all that lives.
        """
        parameters = held_by(self.model)
        replaced: list[tuple[nn.Parameter, nn.Parameter]] = []
        with bar("asking the creators", len(parameters)) as advance:
            for held in parameters:
                made = self._create(chain, held)
                if made is not held.parameter:
                    replaced.append((held.parameter, made))
                advance()
        for refused, _ in replaced:
            self._forget(refused)
        return replaced

    def put(
        self, parameter: nn.Parameter, data: torch.Tensor, *, own: bool, trainable: bool
    ) -> None:
        """Put ``data`` into a parameter, and into the tensor objects that share its memory."""
        storage = self.recording.storage_of(parameter)
        if storage is None:
            if not own:
                put_data(parameter, data)
            parameter.requires_grad_(trainable)
            return
        ref = self.recording.tape.ref(parameter)
        alike = own or (self.recording.tape.covers(ref) and _laid_out(data, ref))
        with no_function_modes(), _as_inference(parameter):
            if not alike and self._is_part(storage, ref, data):
                memory = self._memory.get(storage) or self.recording.found(storage)
                alike = own = True
                with torch.no_grad():
                    data = self.recording.view(ref, memory).copy_(data)
            if own:  # parameters of one storage go on sharing it
                memory = self._memory.setdefault(storage, data.untyped_storage())
                data = self.recording.view(ref, memory)
            elif data.is_inference() is not parameter.is_inference():
                data = data.clone()
            replace(parameter, data.view_as(data), requires_grad=trainable)
        self._share(storage, parameter, data, alike=alike)

    def _is_part(self, storage: int, ref: Ref, data: torch.Tensor) -> bool:
        """Return whether a value has to go into memory that other tensors look at as well."""
        place = self.recording.tape.device(storage)
        shared = storage in self._memory or len(self._objects[storage]) > 1
        return shared and (data.dtype, data.device) == (ref.dtype, place)

    def _share(
        self, storage: int, parameter: nn.Parameter, data: torch.Tensor, *, alike: bool
    ) -> None:
        """Let what else looks at a storage look at ``data``'s, if it is laid out alike.

        But for parameters: they have creators of their own to pass.
        """
        waiting = [(t, r) for t, r in self._objects.pop(storage) if t is not parameter]
        if alike and waiting:
            loose = [(t, r) for t, r in waiting if not isinstance(t, nn.Parameter)]
            with torch.no_grad():
                share(self.recording, loose, data.untyped_storage())
            waiting = [(t, r) for t, r in waiting if isinstance(t, nn.Parameter)]
        if waiting:
            self._objects[storage] = waiting
        else:
            self._memory.pop(storage, None)

    def _forget(self, refused: nn.Parameter) -> None:
        """Let nothing be replayed for a parameter that a creator answered by one of its own."""
        self.recording.handed.forget(refused)
        storage = self.recording.storage_of(refused)
        if storage is None:
            return
        others = [(t, r) for t, r in self._objects.pop(storage, []) if t is not refused]
        if others:
            self._objects[storage] = others

    def _create(self, chain: NextCreator, held: Held) -> nn.Parameter:
        parameter, spec, shards = held.parameter, held.spec, self._shards
        names = [without_wrappings(name) for name in held.names]
        module = held.places[0][0]
        if shards is not None and parameter in shards:
            part = shards.target(module, names[0], parameter)
            device = shards.device(parameter)
            made = ask(chain, part, part.value, device=device, names=names, spec=spec)
            shards.answered(parameter, made)
            target: Target = part
        else:
            target = RecordedTarget(module, names[0], parameter, self.recording, self.put)
            device = self.recording.device_of(parameter)
            made = ask(chain, target, target.value, device=device, names=names, spec=spec)
        declaration: VariableSpec | None = made.__dict__.get(OWN)
        if made is target.made and target.spec is not None:
            declaration = target.spec
            if OWN in made.__dict__:
                made.__dict__[OWN] = declaration
        for module, local in held.places:
            module._parameters[local] = made
            if declaration is not None:
                declare(module, local, declaration)
        return made


def create_parameters(
    model: nn.Module,
    recording: Recording,
    objects: Objects,
    chain: NextCreator,
    shards: Shards | None,
) -> None:
    """Call the creators once for each parameter of a recorded model.

    Args:
        model: The model, on meta.
        recording: Where its values come from.
        objects: Every recorded tensor object, by storage; those that were filled are taken out.
        chain: The creators.
        shards: Those of the parameters of which this rank has a part.
    """
    _Creation(model, recording, objects, shards).run(chain)


def _laid_out(data: torch.Tensor, ref: Ref) -> bool:
    """Return whether ``data`` lies in its storage as ``ref`` lies in its own."""
    return (data.dtype, data.size(), data.stride(), data.storage_offset()) == (
        ref.dtype,
        ref.size,
        ref.stride,
        ref.offset,
    )


def _as_inference(parameter: nn.Parameter) -> AbstractContextManager[object]:
    """Return a context in which tensors are inference tensors if the parameter is one."""
    inference = parameter.is_inference()
    if inference is torch.is_inference_mode_enabled():  # nearly always
        return nullcontext()
    return torch.inference_mode(inference)
