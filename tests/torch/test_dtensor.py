"""What a DTensor holds, and another one placed alike, are what torch's public ways return."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from tests.support.ranks import run_ranks
from torchcreator._torch.dtensor import held_part, with_part

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_a_part_is_held_and_exchanged(tmp_path):
    """A parameter and a plain one, of rows that no rank number divides, of columns, whole."""

    def rank(number):
        mesh = init_device_mesh("cpu", (2,))
        for placement in (Shard(0), Shard(1), Replicate()):
            plain = distribute_tensor(torch.ones(3, 4), mesh, [placement])
            parameter = nn.Parameter(plain)
            parameter.note = "kept"
            for tensor, trainable in ((plain, False), (parameter, True), (parameter, False)):
                assert torch.equal(held_part(tensor), tensor.to_local())
                assert held_part(tensor).data_ptr() == tensor.to_local().data_ptr()
                part = torch.full(tensor.to_local().shape, number + 2.0)
                made = with_part(tensor, part, trainable=trainable)
                public = DTensor.from_local(
                    part, mesh, [placement], shape=tensor.shape, stride=tensor.stride()
                )
                assert isinstance(made, nn.Parameter) == (tensor is parameter)
                assert made.is_leaf
                assert made.requires_grad == trainable
                assert made.__dict__ == tensor.__dict__
                assert (made._spec, type(made)) == (public._spec, type(public))
                assert (made.shape, made.stride()) == (public.shape, public.stride())
                assert made.to_local().data_ptr() == part.data_ptr()
                assert torch.equal(held_part(made), part)
            on_meta = with_part(plain, held_part(plain).to("meta"), trainable=False)
            assert held_part(on_meta).is_meta

    run_ranks(rank, 2, tmp_path)


def test_a_rank_outside_the_mesh_holds_nothing(tmp_path):
    """Its part keeps the shape that torch gave it."""

    def rank(number):
        tensor = distribute_tensor(torch.ones(4, 2), DeviceMesh("cpu", [0]), [Shard(0)])
        if number:
            made = with_part(tensor, torch.empty(0, 0), trainable=False)
            assert held_part(made).shape == held_part(tensor).shape == (0,)

    run_ranks(rank, 2, tmp_path)
