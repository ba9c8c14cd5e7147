"""What a tensor object looks at, by torch's private names."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

from torchcreator._torch.tensors import (
    can_share_data,
    exchange,
    flattened,
    foreach_clamp_max_,
    foreach_clamp_min_,
    foreach_copy_,
    foreach_mul_,
    foreach_zero_,
    held_in_torch,
    is_plain_meta,
    lazy_view,
    moved_shell,
    same_generator,
    storage_key,
    typed_storage,
    unflattened,
    version,
    viewed,
    viewers,
    weak_storage,
    with_index,
)


def test_a_storage_tells_who_looks_at_it():
    """Tensors of one storage have one key, and the storage counts them."""
    first = torch.empty(2, 3, device="meta")
    second, other = first.t(), torch.empty(2, 3, device="meta")
    assert storage_key(first) == storage_key(second)
    assert storage_key(first) != storage_key(other)
    assert viewers(first.untyped_storage()) == 2
    del second
    assert viewers(first.untyped_storage()) == 1


def test_views_share_a_storage_key():
    """Tensors that look at one memory have one key, others another."""
    tensor = torch.zeros(2, 2)
    assert storage_key(tensor) == storage_key(tensor.t()[1:])
    assert storage_key(tensor) != storage_key(tensor.clone())


def test_a_storage_is_remembered_without_its_memory():
    """A weak reference to a storage has the storage's key, and keeps no tensor alive."""
    tensor = torch.zeros(2)
    key, _reference = weak_storage(tensor.view(2, 1))
    assert key == storage_key(tensor)
    held = weakref.ref(tensor)
    del tensor
    gc.collect()
    assert held() is None


def test_a_typed_storage_is_reached_by_the_method():
    """The method that torch calls for the storage of a dtype returns one."""
    assert isinstance(typed_storage(torch.ones(2)), torch.TypedStorage)


def test_data_can_be_shared_on_one_kind_of_device():
    """A parameter takes a tensor of another dtype as its data, but none of another backend."""
    p = nn.Parameter(torch.ones(2))
    assert can_share_data(p, torch.ones(3, dtype=torch.float64))
    assert not can_share_data(p, torch.ones(2, device="meta"))


def test_lists_are_written_in_one_call():
    """The ``_foreach_`` operations write every member."""
    tensors = [torch.tensor([-1.0, 3.0]), torch.tensor([0.5])]
    foreach_clamp_min_(tensors, 0.0)
    foreach_clamp_max_(tensors, 2.0)
    assert [t.tolist() for t in tensors] == [[0.0, 2.0], [0.5]]
    foreach_copy_(tensors, (torch.ones(2), torch.zeros(1)))
    assert [t.tolist() for t in tensors] == [[1.0, 1.0], [0.0]]
    foreach_mul_(tensors, 3.0)
    assert [t.tolist() for t in tensors] == [[3.0, 3.0], [0.0]]
    foreach_zero_(tensors)
    assert [t.tolist() for t in tensors] == [[0.0, 0.0], [0.0]]


def test_a_write_raises_the_version():
    """A tensor's version rises with each write to it, also through a view."""
    tensor = torch.zeros(2)
    before = version(tensor)
    tensor[0].add_(1)
    assert version(tensor) > before


def test_lazy_bits_are_set():
    """Conjugation and negation come as views that compute nothing."""
    tensor = torch.tensor([1 + 2j])
    both = lazy_view(tensor, conj=True, neg=True)
    assert both.is_conj()
    assert both.is_neg()
    assert both.resolve_conj().resolve_neg().item() == -1 + 2j
    assert lazy_view(tensor, conj=False, neg=False) is tensor


def test_tensors_exchange_what_they_hold():
    """Two tensor objects exchange memory and shape, and keep their identity and attributes."""
    first, second = torch.zeros(2), torch.ones(3)
    first.note = "first"
    exchange(first, second)
    assert (first.tolist(), second.tolist(), first.note) == ([1.0] * 3, [0.0] * 2, "first")


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")  # by torch 2.11, although told not to
def test_plain_meta_tensors_are_told_from_sparse_ones():
    """A dense meta tensor has a storage, a sparse one has none, a real one is not on meta."""
    assert is_plain_meta(torch.empty(1, device="meta"))
    sparse = torch.sparse_coo_tensor(size=(2,), device="meta", check_invariants=False)
    assert not is_plain_meta(sparse)
    assert not is_plain_meta(torch.empty(1))


def test_a_generator_is_recognised_behind_another_object():
    """One generator is itself, two are not."""
    assert same_generator(torch.default_generator, torch.default_generator)
    assert not same_generator(torch.default_generator, torch.Generator())


def test_devices_without_index_are_left_where_there_is_one():
    """CPU and meta have no index, and an index that is there stays."""
    for name in ("cpu", "meta", "cuda:1"):
        assert with_index(torch.device(name)) == torch.device(name)


def test_lists_become_one_row_and_back():
    """Tensors are laid in one row, and views of a row have their shapes."""
    tensors = [torch.ones(2, 2), torch.zeros(3)]
    row = flattened(tensors)
    assert row.tolist() == [1.0] * 4 + [0.0] * 3
    assert [view.shape for view in unflattened(row, tensors)] == [(2, 2), (3,)]


def test_what_torch_holds_is_told_from_what_python_holds():
    """A gradient and the base of a view are held by torch; a tensor in a list is not."""
    parameter = nn.Parameter(torch.ones(2))
    gradient, base = torch.ones(2), torch.ones(2, 2)
    kept = [gradient, base]
    assert not any(map(held_in_torch, kept))
    parameter.grad = gradient
    view = base[0]
    assert all(map(held_in_torch, kept))
    del view
    assert not held_in_torch(base)


def test_a_view_tells_what_it_is_a_view_of():
    """A view holds its base; a tensor of its own has none."""
    base = torch.ones(2, 2)
    assert viewed(base[0]) is base
    assert viewed(base) is None


def test_a_shell_says_that_it_is_elsewhere():
    """A tensor that wraps others is made again, with another device and nothing inside."""

    class Around(torch.Tensor):
        @classmethod
        def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
            return NotImplemented

    tensor = torch.Tensor._make_wrapper_subclass(Around, (2, 3), device="meta", dtype=torch.int8)
    moved = moved_shell(tensor, torch.device("cpu"))
    assert type(moved) is Around
    assert (moved.device.type, moved.shape, moved.dtype) == ("cpu", (2, 3), torch.int8)
