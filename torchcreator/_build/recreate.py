"""`recreate`: send the parameters of a finished model through the creators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from torch import nn

from torchcreator._build.context import building, under_way
from torchcreator._build.finished_parameter import FinishedTarget
from torchcreator._build.finished_shard import FinishedShard
from torchcreator._build.in_hands import (
    declared_otherwise,
    refuse_elsewhere,
    refuse_gathered,
    refuse_in_hands,
    refuse_scripted,
    refuse_unwritable,
)
from torchcreator._build.module_tables import Tables
from torchcreator._build.old_memory import warn_of_views
from torchcreator._build.progress import bar
from torchcreator._build.references import take_over
from torchcreator._chain.default import adopt
from torchcreator._chain.open_scopes import Step
from torchcreator._chain.scope import current_step
from torchcreator._chain.target import target as waiting
from torchcreator._errors import BuildError
from torchcreator._optim import owners
from torchcreator._recorder.live_tensors import reached
from torchcreator._recorder.origins import DEFERRED
from torchcreator._spec.spec import VariableSpec, announce_constraint, announce_policy
from torchcreator._spec.table import (
    OWN,
    TABLE,
    checked_model,
    declaration_of,
    declare,
    specs_of,
    undeclare,
)
from torchcreator._torch.dtensor import is_sharded
from torchcreator._torch.modules import WRAPPINGS

Model = TypeVar("Model", bound=nn.Module)
_NOTHING: Mapping[str, VariableSpec] = {}


def recreate(model: Model) -> Model:
    """Send every parameter of a finished model through the creators of the open scopes.

    For models that come from somewhere: ``from_pretrained``, `torch.load`, a colleague's factory.
    The creators are called once for every parameter, in the order of ``named_parameters``, with
    its full name, owner, shape, dtype and device, ``trainable`` as it is, what it was declared as
    if it was, and an ``initial_value`` callable that returns a copy of its value. A tied parameter
    comes once, with all its names in ``tags["names"]``. Outside any scope the model is returned as
    it is.

    What they decide is carried out in place. Where it is policies only, the parameter stays the
    object that it is, with its memory, its hooks and its ``.grad``, and optimizers go on with it. A
    new value is copied into that memory. In another dtype or on another device it gets memory of
    its own, and is still the object that everybody holds; its ``.grad`` is converted. A parameter
    of the creator's own takes its place wherever the model has it: in modules, lists, attributes,
    closures. Of a sharded one (``fully_shard``, ``distribute_module``, ``parallelize_module``) this
    rank changes its part: the ``initial_value`` can be sliced as the parameter is sharded, a new
    value is cut, and dtype, device and the parameter stay. Buffers are left alone, but for those
    that `creators.from_checkpoint` reads.

    All of it happens, or nothing: where a creator raises, or something cannot be changed any more,
    the model is what it was. Until then new values lie beside the old ones, in memory of their own;
    those of `creators.from_checkpoint` stay in the file. What a creator itself writes into a
    parameter that keeps its value is not undone.

    Args:
        model: Any module that is not deferred.

    Returns:
        The model.

    Raises:
        BuildError: An optimizer holds a parameter that would be replaced, or get another dtype or
            device; or another module does, outside the model. (Neither is seen if it was there
            before a ``gc.freeze()``: call ``gc.unfreeze()`` first.) The model is deferred, or its
            sharded parameters are gathered; or a creator asks for more than this rank's part of
            one.
        DistributedError: A host holds a parameter, and has set up for what would be changed.
        CreatorResultError: A creator returned None, or gave a parameter another shape.
        VariableTypeError: It is no module.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> weight = model[0].weight
        >>> with tc.creator_scope(tc.creators.freeze(name="0.*")):
        ...     model = tc.recreate(model)
        >>> [name for name, p in model.named_parameters() if p.requires_grad]
        ['1.weight', '1.bias']
        >>> model[0].weight is weight
        True
    """
    step = current_step(adopt)
    found = _Found(checked_model(model, "recreate()"))
    if step is not None:
        _recreate(found, step)
    return model


class _Found:
    """What a model consists of: its modules, and every parameter with all its names."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules: dict[int, nn.Module] = {}
        self._targets: dict[int, FinishedTarget] = {}
        self._look(model, "", set())
        self.targets = [*self._targets.values()]

    def _look(self, module: nn.Module, prefix: str, above: set[int]) -> None:
        """Go through modules in the order of ``named_parameters``."""
        if DEFERRED in module.__dict__:
            raise _deferred(self.model, prefix)
        self.modules[id(module)] = module
        table = module.__dict__.get(TABLE)
        declared = _NOTHING if table is None else table.declared
        for local, parameter in module._parameters.items():
            if parameter is None:
                continue
            target, name = self._targets.get(id(parameter)), prefix + local
            if target is None:
                plain = type(parameter) is nn.Parameter or not is_sharded(parameter)
                kind = FinishedTarget if plain else FinishedShard
                target = kind(parameter, name, module, local, declared.get(local))
                self._targets[id(parameter)] = target
            else:
                target.places.append((name, module, local))
        if not module._modules:
            return
        above.add(id(module))
        for local, child in module._modules.items():
            if child is not None and id(child) not in above:  # a circle has names without end
                path = f"{local}."
                self._look(child, prefix if path in WRAPPINGS else prefix + path, above)
        above.discard(id(module))


def _recreate(found: _Found, step: Step) -> None:
    refuse_gathered(found.modules.values(), found.targets)
    tables = Tables(found.modules.values())
    try:
        _ask(found.model, step, found.targets, tables)
        changed = [target for target in found.targets if not target.as_it_was]
        replaced = [target for target in changed if target.returned is not target.parameter]
        for target in changed:
            target.refuse()
        refuse_scripted(changed)
        refuse_in_hands(changed)
        if replaced:
            refuse_elsewhere(found.modules, replaced)
            refuse_unwritable(found.model, replaced)
    except BaseException:  # all of it happens, or nothing
        tables.restore()
        for target in found.targets:
            target.undo()
        raise
    for target in changed:
        if target.returned is target.parameter:
            target.settle()
        else:
            target.undo()  # whoever else has the old one finds it as it was
    for target in found.targets:
        _declare(target)
    _follow(found, changed, replaced)
    _announce(changed)


def _follow(
    found: _Found, changed: Sequence[FinishedTarget], replaced: Sequence[FinishedTarget]
) -> None:
    """Let whatever holds a parameter, or looks at its memory, have what it is now."""
    if replaced:
        pairs = [(t.parameter, t.returned) for t in replaced if t.returned is not None]
        done = {id(module._parameters) for module in found.modules.values()}
        take_over(pairs, within=reached([found.model]).keys() - done)
    moved = [t for t in changed if t.converted or t.returned is not t.parameter]
    if moved:
        warn_of_views(found.model, moved)
        for module in found.modules.values():
            if isinstance(module, nn.RNNBase):
                module.flatten_parameters()  # cuDNN has the weights in one piece


@under_way
def _ask(model: nn.Module, step: Step, targets: Sequence[FinishedTarget], tables: Tables) -> None:
    this = building.get()
    assert this is not None
    this.finished = True
    creator, onward = step
    elsewhere = [target for target in targets if target.declared is None]
    if elsewhere:
        specs = specs_of([target.parameter for target in elsewhere])
        for target, spec in zip(elsewhere, specs, strict=True):
            target.declared = spec
    token = waiting.set(None)
    try:
        with bar("asking the creators", len(targets)) as advance:
            for target in targets:
                waiting.set(target)
                target.ask(creator, onward)
                advance()
    finally:
        waiting.reset(token)
    if this.at_end:
        tables.keep_buffers()


def _declare(target: FinishedTarget) -> None:
    made, spec = target.returned, target.spec
    assert made is not None  # it was asked
    if made is not target.parameter:
        spec = declaration_of(made)
    elif spec is None:  # a creator answered with it, and asked nobody further out
        return
    elif OWN in made.__dict__:
        made.__dict__[OWN] = spec
    for _, module, local in target.places:
        module._parameters[local] = made
        if spec is not None:
            declare(module, local, spec)
        else:
            undeclare(module, local)


def _announce(changed: Sequence[FinishedTarget]) -> None:
    """Tell optimizers and hosts, which may have the parameters, that they declare other things."""
    if any(t.spec is None or t.handed is None or t.spec[4] is not t.handed[4] for t in changed):
        announce_constraint()
    if any(declared_otherwise(target) is not None for target in changed):
        announce_policy()
        owners.announce_change()


def _deferred(model: nn.Module, prefix: str) -> BuildError:
    inner = f", in {prefix.rstrip('.')!r}" if prefix else ""
    return BuildError(
        f"recreate() got a {type(model).__name__} that is deferred{inner}.",
        "Its parameters have no values yet, and pass the creators when they get them.",
        "Open the scope around materialize().",
    )
