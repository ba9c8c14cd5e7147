"""Under torchrun: a killed rank costs the epoch it was in, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from tests.support.ranks import without_gloo

ROOT = Path(__file__).parents[2]


def torchrun(folder, *options, restarts=0):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "--monitor-interval", "0.1"]
    command += ["--max-restarts", str(restarts), "examples/ddp_policies.py"]
    command += ["--folder", str(folder), *options]
    quiet = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | quiet,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output, errors = started.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        started.terminate()  # torchrun then ends its ranks; a kill would leave them behind
        output, errors = started.communicate()
    return subprocess.CompletedProcess(command, started.returncode, without_gloo(output), errors)


def last_checkpoint(folder):
    """Return what all ranks of a finished run have saved, by name."""
    dcp_to_torch_save(folder / "epoch3", folder / "whole.pt")
    return torch.load(folder / "whole.pt")


@pytest.mark.slow
@pytest.mark.timeout(600)  # three runs, of three processes each
def test_training_resumes_after_kills_with_nothing_lost(tmp_path):
    """A run whose rank 1 is killed twice ends as one that nobody disturbed, in every bit.

    Once somebody gives the same command again, and once torchrun starts the ranks anew.
    """
    undisturbed = torchrun(tmp_path / "undisturbed")
    killed = torchrun(tmp_path / "killed", "--kill-at-epoch", "1")
    resumed = torchrun(tmp_path / "killed", "--kill-at-epoch", "2", restarts=1)
    assert undisturbed.returncode == 0, undisturbed.stderr[-3000:]
    assert killed.returncode != 0
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert len(list((tmp_path / "killed").glob("died at [12]"))) == 2
    # 3 epochs of 10 steps of 8 samples on each of 2 ranks; the counter forgot what was lost.
    assert undisturbed.stdout == "gain 1.137, 480 samples seen\n"
    assert resumed.stdout == undisturbed.stdout
    want, got = (last_checkpoint(tmp_path / name) for name in ("undisturbed", "killed"))
    assert {"module.gain", "module.expert@0", "module.expert@1"} < set(want)
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)
