"""The examples run as their first lines say, and show what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ranks import without_gloo

EXAMPLES = Path(__file__).parents[2] / "examples"

EXPECTED = {
    "constraint_gallery.py": """
        none               loss 0.00  smallest -2.12  largest σ 5.49
        NonNeg             loss 0.44  smallest  0.00  largest σ 4.70
        Clip               loss 0.49  smallest -0.50  largest σ 2.06
        MaxNorm            loss 0.58  smallest -0.48  largest σ 1.67
        UnitNorm           loss 0.58  smallest -0.48  largest σ 1.67
        MinMaxNorm         loss 0.58  smallest -0.48  largest σ 1.67
        Simplex            loss 0.85  smallest  0.00  largest σ 1.25
        Sparse             loss 0.45  smallest -2.12  largest σ 3.95
        Masked             loss 0.45  smallest -1.70  largest σ 4.91
        Orthogonal         loss 0.67  smallest -0.56  largest σ 1.00
        SpectralNorm       loss 0.69  smallest -0.55  largest σ 1.00
        Symmetric          loss 0.59  smallest -1.38  largest σ 3.59
        PositiveDefinite   loss 0.79  smallest -1.25  largest σ 3.98
        NonNeg & UnitNorm  loss 0.73  smallest  0.00  largest σ 2.06
        """,
    "swap_parameters.py": """
        embed.weight         (100, 16)  torch.bfloat16  frozen
        read.weight_ih_l0    (48, 16)   torch.bfloat16  trained
        read.weight_hh_l0    (48, 16)   torch.bfloat16  trained
        read.bias_ih_l0      (48,)      torch.float32   trained
        read.bias_hh_l0      (48,)      torch.float32   trained
        answer.weight        (4, 16)    torch.bfloat16  trained
        answer.bias          (4,)       torch.float32   trained
        """,
    "finished_model.py": """
        15 parameters, the same objects: True
        decay: [(6, 0.1), (9, 0.0)]
        constrained: ['1.linear1.weight', '1.linear2.weight']
        on meta: {'meta'}
        from the checkpoint: {'torch.bfloat16'}
        declared as before: ['sum', 'sum']
        """,
    "data_parallel.py": """
        rank 0: 0.weight  auto, sum    [3.0, 3.0]
        rank 0: 1.weight  auto, none   [1.5, 1.5]
        rank 0: 1.bias    none, none   [1.0]
        rank 1: 0.weight  auto, sum    [3.0, 3.0]
        rank 1: 1.weight  auto, none   [1.5, 1.5]
        rank 1: 1.bias    none, none   [2.0]
        """,
    "fsdp2_policies.py": """
        gradients: equal to one process's
        checkpoint: resumed, equal in every bit
        """,
    "sharded_start.py": """
        21 parameters from 6 files, 50% of them on each rank
        8 updates, trained: True
        """,
    "moe_local_experts.py": """
        rank 0: expert and gate have one process's gradients
        rank 1: expert and gate have one process's gradients
        """,
}
ELSEWHERE = {"ddp_policies.py"}  # in tests/distributed/test_torchrun.py, killed and not
STARTERS = {
    "python": [sys.executable],
    "torchrun": [sys.executable, "-m", "torch.distributed.run"],
}


def test_every_example_is_run():
    """No example is left out of these tests."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(EXPECTED) | ELSEWHERE


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_prints_what_it_promises(name):
    """An example, started with the command in its docstring, prints the expected lines."""
    command = re.search(r"Run it with ``(.*)``", (EXAMPLES / name).read_text())[1]
    starter, *arguments = command.split()
    done = subprocess.run(
        [*STARTERS[starter], *arguments],
        cwd=EXAMPLES.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    printed = sorted(line.rstrip() for line in without_gloo(done.stdout).splitlines())
    assert printed == sorted(line.strip() for line in EXPECTED[name].strip().splitlines())
