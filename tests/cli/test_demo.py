"""The demo, as a user starts it: what it prints, what it returns, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from torchcreator.__main__ import main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at process groups")

DEMO = [sys.executable, "-m", "torchcreator", "demo"]
WITHIN = 90


@contextmanager
def running(*arguments):
    """Start the demo in a process group of its own; whatever happens, none of it stays."""
    demo = subprocess.Popen(
        [*DEMO, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield demo
    finally:
        if is_group_alive(demo.pid):
            os.killpg(demo.pid, signal.SIGKILL)
        demo.communicate()


def is_group_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def verdicts(printed):
    return [line for line in printed.splitlines() if line.startswith(("✓", "✗", "-"))]


def test_two_ranks_learn_and_every_claim_holds():
    """On two ranks the demo shows every variable, learns to read, and keeps all it claims."""
    with running("--epochs", "6") as demo:
        printed, complaints = demo.communicate(timeout=WITHIN)
        assert not is_group_alive(demo.pid)
    assert (demo.returncode, complaints) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.strip()}
    assert rows["scans_seen"] == ["scalar", "no", "ON_READ", "SUM"]
    assert rows["lift.weight"] == ["128x64", "no", "AUTO", "NONE"]
    assert rows["hidden.weight"] == ["64x128", "yes", "MaxNorm", "AUTO", "NONE"]
    assert rows["gain.weight"] == ["64", "yes", "AUTO", "SUM"]
    assert rows["slope.weight"] == ["1", "yes", "AUTO", "ONLY_FIRST_REPLICA"]
    assert rows["expert.weight"] == ["64x64", "yes", "MaxNorm", "NONE", "NONE"]
    assert "6/6 epochs" in printed
    assert [line[0] for line in verdicts(printed)] == ["✓"] * 7
    assert "scans_seen reads 8,616, the scans fed to the ranks (4,308 + 4,308)" in printed
    *_, source, page, command = printed.splitlines()
    assert "def classifier()" in Path(source.rpartition(" ")[2]).read_text()
    assert command.endswith("torchcreator inspect torchcreator._cli.demo.example:classifier")
    path = Path(page.removeprefix("Its variables, to look at: "))
    assert "hidden.weight" in path.read_text()
    path.unlink()
    path.parent.rmdir()  # made for it alone


def test_one_rank_works(tmp_path):
    """On one rank it works the same; only the comparison between ranks has nothing to see."""
    page = tmp_path / "page.html"
    with running("--world-size", "1", "--epochs", "5", "--seed", "7", "--html", page) as demo:
        printed, complaints = demo.communicate(timeout=WITHIN)
    assert page.read_text().startswith("<!doctype html>")
    assert (demo.returncode, complaints) == (0, "")
    assert [line[0] for line in verdicts(printed)] == ["✓", "-", *"✓" * 5]


def test_a_page_that_cannot_be_written_is_said(tmp_path):
    """The demo ends with one line about it, and status 2."""
    with running("--world-size", "1", "--epochs", "5", "--html", tmp_path) as demo:
        _, complaints = demo.communicate(timeout=WITHIN)
    assert demo.returncode == 2
    assert complaints == (
        f"torchcreator demo: error: {str(tmp_path)!r} cannot be written: Is a directory\n"
    )


def test_a_claim_that_fails_fails_the_demo(tmp_path):
    """One epoch is too little: the demo says which claim failed and returns 1."""
    with running("--epochs", "1", "--html", tmp_path / "page.html") as demo:
        printed, complaints = demo.communicate(timeout=WITHIN)
    assert (demo.returncode, complaints) == (1, "")
    failed = [line for line in verdicts(printed) if line.startswith("✗")]
    assert len(failed) == 1
    assert "not above 90%" in failed[0]
    assert "1 of 7 claims failed." in printed


@pytest.fixture
def failing(monkeypatch):
    """Let what makes the ranks' model do something else."""

    def fail(how):
        monkeypatch.setattr("torchcreator._cli.demo.ranks.classifier", how)

    return fail


def test_a_rank_that_raises_is_shown(failing, capsys):
    """When a rank raises, the demo ends with status 1, the rank's number and its traceback."""

    def broken():
        message = "broken on purpose"
        raise ValueError(message)

    failing(broken)
    assert main(["demo"]) == 1
    complaint = capsys.readouterr().err
    assert re.match(r"torchcreator demo: error: rank [01] failed\n", complaint)
    assert "Traceback" in complaint
    assert complaint.endswith("ValueError: broken on purpose\n")


def test_a_rank_that_dies_is_shown(failing, capsys):
    """When a rank is killed from outside, the demo ends with status 1 and says by what."""
    failing(lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert main(["demo", "--world-size", "1"]) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("torchcreator demo: error: rank 0 failed\n")
    assert "signal SIGKILL" in complaint


def test_spawned_ranks_do_the_same(tmp_path, capsys, monkeypatch):
    """Where a fork is not safe the ranks are spawned, and work the same."""
    monkeypatch.setattr("torchcreator._cli.demo.ranks.sys", SimpleNamespace(platform="elsewhere"))
    page = str(tmp_path / "page.html")
    assert main(["demo", "--world-size", "1", "--epochs", "5", "--html", page]) == 0
    assert len(verdicts(capsys.readouterr().out)) == 7


def test_the_same_seed_gives_the_same_numbers(tmp_path):
    """Two runs with one seed end in the same values, bit for bit."""
    printed = []
    for _ in range(2):
        with running("--epochs", "1", "--seed", "3", "--html", tmp_path / "page.html") as demo:
            printed.append(verdicts(demo.communicate(timeout=WITHIN)[0]))
    assert printed[0] == printed[1]
    assert len(printed[0]) == 7


def test_ctrl_c_while_loading_is_quiet():
    """Ctrl-C in the middle of an import ends the demo at once, without a traceback."""
    with running() as demo:
        maps = Path(f"/proc/{demo.pid}/maps")
        while "libtorch" not in maps.read_text():
            time.sleep(0.01)
        demo.send_signal(signal.SIGINT)
        _, complaints = demo.communicate(timeout=20)
    assert (demo.returncode, complaints) == (-signal.SIGINT, "")


@pytest.mark.parametrize("to_all", [True, False], ids=["from the terminal", "to one process"])
def test_ctrl_c_leaves_no_process(to_all):
    """Ctrl-C in mid-training ends the demo quietly and soon, and all its ranks with it."""
    with running("--epochs", "1000") as demo:
        assert any(line.startswith("head.bias") for line in demo.stdout)
        time.sleep(0.5)  # well into training
        if to_all:
            os.killpg(demo.pid, signal.SIGINT)
        else:
            os.kill(demo.pid, signal.SIGINT)
        _, complaints = demo.communicate(timeout=20)
        assert demo.returncode == 130
        assert complaints == ""
        assert not is_group_alive(demo.pid)


def test_a_killed_demo_leaves_no_process():
    """Even SIGKILL of the process that started them leaves no rank behind."""
    with running("--epochs", "1000") as demo:
        assert any(line.startswith("head.bias") for line in demo.stdout)
        time.sleep(0.5)  # well into training
        demo.kill()
        demo.wait()
        deadline = time.monotonic() + 20
        while is_group_alive(demo.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_group_alive(demo.pid)
