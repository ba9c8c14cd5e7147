"""What "bit-identical to plain construction" means, checked in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

import torchcreator as tc
from torchcreator._build.build import build
from torchcreator._spec.types import NextCreator


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and buffers by full name, each name of a tie included."""
    named = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    return dict(named)


def assert_same_tensor(name: str, built: torch.Tensor, plain: torch.Tensor) -> None:
    assert type(built) is type(plain), name
    assert built.device == plain.device, name
    assert built.dtype == plain.dtype, name
    assert built.requires_grad == plain.requires_grad, name
    if is_lazy(plain):
        return
    assert built.layout == plain.layout, name
    assert built.is_inference() == plain.is_inference(), name
    assert built.shape == plain.shape, name
    if plain.layout is torch.strided:
        assert built.stride() == plain.stride(), name
        assert built.storage_offset() == plain.storage_offset(), name
        size = plain.untyped_storage().nbytes()
        assert built.untyped_storage().nbytes() == size, name
    torch.testing.assert_close(built, plain, rtol=0, atol=0, equal_nan=True, msg=name)
    if plain.is_leaf:
        assert (built.grad is None) is (plain.grad is None), name
        if plain.grad is not None:
            assert_same_tensor(f"{name}.grad", built.grad, plain.grad)


def groups(values: dict[str, object]) -> list[list[str]]:
    """Return the names that share a value."""
    found: dict[object, list[str]] = {}
    for name, value in values.items():
        found.setdefault(value, []).append(name)
    return list(found.values())


def assert_same_model(built: nn.Module, plain: nn.Module) -> None:
    """Assert equal names, values, types, strides, ties and shared memory."""
    ours, theirs = tensors_of(built), tensors_of(plain)
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert_same_tensor(name, ours[name], tensor)
    assert groups({n: id(t) for n, t in ours.items()}) == groups(
        {n: id(t) for n, t in theirs.items()}
    )
    if not any(is_lazy(t) or t.layout is not torch.strided for t in theirs.values()):
        assert groups({n: t.untyped_storage()._cdata for n, t in ours.items()}) == groups(
            {n: t.untyped_storage()._cdata for n, t in theirs.items()}
        )


def assert_builds_same(
    factory: Callable[[], nn.Module], *, state: int = 0
) -> tuple[nn.Module, nn.Module]:
    """Assert that building, also through a creator, equals plain construction.

    The generator's state afterwards is compared too, and that the creator saw each parameter once.
    """
    torch.manual_seed(state)
    plain = factory()
    after_plain = torch.get_rng_state()
    torch.manual_seed(state)
    built = build(factory)
    assert torch.equal(torch.get_rng_state(), after_plain)
    assert_same_model(built, plain)

    seen: list[str] = []

    def log(next_creator: NextCreator, **kwargs: Any) -> nn.Parameter:
        seen.append(kwargs["name"])
        return next_creator(**kwargs)

    torch.manual_seed(state)
    with tc.creator_scope(log):
        created = build(factory)
    assert torch.equal(torch.get_rng_state(), after_plain)
    assert_same_model(created, plain)
    assert seen == [name for name, _ in plain.named_parameters()]
    return built, plain
