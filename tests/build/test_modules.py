"""Every module of torch's own module_db, built."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.build.same import assert_builds_same

pytest.importorskip("expecttest", reason="torch's module_db needs expecttest")

from torch.testing._internal.common_modules import module_db

CASES = sorted({info.name: info for info in module_db}.items())


def constructions(info):
    """Return the arguments of each constructor call that torch tests, each once."""
    found = {}
    for training in (True, False):
        inputs = info.module_inputs_func(
            info, device="cpu", dtype=torch.float32, requires_grad=False, training=training
        )
        for given in inputs:
            arguments = given.constructor_input
            found.setdefault(repr((arguments.args, arguments.kwargs)), arguments)
    return list(found.values())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "info"), CASES, ids=[name for name, _ in CASES])
def test_module(name, info):
    """Built, also through a creator, it equals its plain construction bit for bit."""
    for arguments in constructions(info):

        def factory(arguments=arguments):
            return info.module_cls(*arguments.args, **arguments.kwargs)

        built, plain = assert_builds_same(factory)
        assert isinstance(built, nn.Module)
        assert repr(built) == repr(plain)
