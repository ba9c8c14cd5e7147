"""The demo, as a user starts it: what it prints, what it returns, and what it leaves behind."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.ranks import without_gloo
from torchcreator.__main__ import main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at process groups")

DEMO = [sys.executable, "-m", "torchcreator", "demo"]


@contextmanager
def running(*arguments, stdout=subprocess.PIPE):
    """Start the demo in a process group of its own; whatever happens, none of it stays."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # the demo's too, as from a terminal
    try:
        demo = subprocess.Popen(
            [*DEMO, *arguments],
            env=os.environ | {"TERM": "xterm"},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
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


def here(capfd, *arguments):
    """Run the demo in this process, whose forks the ranks are: status, output, complaints."""
    status = main(["demo", *arguments])
    printed = capfd.readouterr()
    return status, printed.out, printed.err


def verdicts(printed):
    return [line for line in printed.splitlines() if line.startswith(("✓", "✗", "-"))]


def test_two_ranks_learn_and_every_claim_holds():
    """On two ranks the demo shows every variable, learns to read, and keeps all it claims."""
    with running("--epochs", "6") as demo:
        printed, complaints = demo.communicate()
        assert not is_group_alive(demo.pid)
    assert (demo.returncode, complaints) == (0, "")
    printed = without_gloo(printed)
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
    begins, *shown, source, page, command = printed.splitlines()
    assert begins == "Starting 2 processes to learn handwritten digits ..."
    assert "def classifier() -> nn.Sequential:" in [line.rstrip() for line in shown]
    assert max(len(line.rstrip()) for line in shown) <= 80
    assert "the lowest rank's (the bar: rank 0's)" in printed
    assert "def classifier()" in Path(source.rpartition(" ")[2]).read_text()
    run = shlex.split(command.partition(": ")[2])
    listed = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "hidden.weight" in listed
    path = Path(page.removeprefix("Its variables, to look at: "))
    assert "hidden.weight" in path.read_text()
    path.unlink()
    path.parent.rmdir()  # made for it alone


def test_one_rank_works(tmp_path, capfd):
    """On one rank it works the same; only the comparison between ranks has nothing to see."""
    page = tmp_path / "page.html"
    options = ("--world-size", "1", "--epochs", "5", "--seed", "7", "--html", str(page))
    status, printed, complaints = here(capfd, *options)
    assert page.read_text().startswith("<!doctype html>")
    assert (status, complaints) == (0, "")
    assert [line[0] for line in verdicts(printed)] == ["✓", "-", *"✓" * 5]


def test_a_page_that_cannot_be_written_is_said(tmp_path, capfd):
    """The demo ends with one line about it, and status 2, before it has trained."""
    status, printed, complaints = here(capfd, "--html", str(tmp_path))
    assert status == 2
    assert "training" not in printed
    assert complaints == (
        f"torchcreator demo: error: {str(tmp_path)!r} cannot be written: Is a directory\n"
    )


def test_a_claim_that_fails_fails_the_demo_and_a_second_run_is_the_same(tmp_path, capfd):
    """One epoch is too little: the demo says which claim failed and returns 1.

    A second run with the same seed ends in the same values, bit for bit.
    """
    options = ("--epochs", "1", "--seed", "3", "--html", str(tmp_path / "page.html"))
    status, printed, complaints = here(capfd, *options)
    assert (status, complaints) == (1, "")
    assert len(verdicts(printed)) == 7
    failed = [line for line in verdicts(printed) if line.startswith("✗")]
    assert len(failed) == 1
    assert "not above 90%" in failed[0]
    assert "1 of 7 claims failed." in printed
    assert verdicts(here(capfd, *options)[1]) == verdicts(printed)


@pytest.fixture
def failing(monkeypatch):
    """Let what makes the ranks' model do something else."""

    def fail(how):
        monkeypatch.setattr("torchcreator._cli.demo.ranks.classifier", how)

    return fail


def test_a_rank_that_raises_is_shown(failing, capfd):
    """When a rank raises, the demo ends with status 1, the rank's number and its traceback."""

    def broken():
        message = "broken on purpose"
        raise ValueError(message)

    failing(broken)
    status, _, complaint = here(capfd)
    assert status == 1
    assert re.match(r"torchcreator demo: error: rank [01] failed\n", complaint)
    assert "Traceback" in complaint
    assert complaint.endswith("ValueError: broken on purpose\n")


def test_a_rank_that_dies_is_shown(failing, capfd):
    """When a rank is killed from outside, the demo ends with status 1 and says by what."""
    failing(lambda: os.kill(os.getpid(), signal.SIGKILL))
    status, _, complaint = here(capfd, "--world-size", "1")
    assert status == 1
    assert complaint.startswith("torchcreator demo: error: rank 0 failed\n")
    assert "signal SIGKILL" in complaint


@pytest.mark.slow
def test_spawned_ranks_do_the_same(tmp_path, capfd, monkeypatch):
    """Where a fork is not safe the ranks are spawned, and work the same."""
    monkeypatch.setattr("torchcreator._cli.demo.ranks.sys", SimpleNamespace(platform="elsewhere"))
    page = str(tmp_path / "page.html")
    status, printed, _ = here(capfd, "--world-size", "1", "--epochs", "5", "--html", page)
    assert status == 0
    assert len(verdicts(printed)) == 7


def test_ctrl_c_while_loading_is_quiet():
    """Ctrl-C in the middle of an import ends the demo at once, without a traceback."""
    with running() as demo:
        maps = Path(f"/proc/{demo.pid}/maps")
        while "libtorch" not in maps.read_text():
            time.sleep(0.01)
        demo.send_signal(signal.SIGINT)
        _, complaints = demo.communicate()
    assert (demo.returncode, complaints) == (-signal.SIGINT, "")


def stopped(stop, signal_number):
    """Stop a demo in mid-training; return its status and complaints when all of it has ended."""
    ours, theirs = pty.openpty()  # where the demo shows each epoch as it ends
    with running("--epochs", "1000", stdout=theirs) as demo, open(ours, "rb", 0) as shown:  # noqa: PTH123
        os.close(theirs)
        seen = b""
        while not re.search(rb"[1-9]\d*/1000", seen):
            seen += shown.read(1 << 16)
        stop(demo.pid, signal_number)
        with suppress(OSError):  # the terminal is closed once the last process has ended
            while shown.read(1 << 16):
                pass
        return demo.wait(), demo.stderr.read()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [os.killpg, os.kill], ids=["from the terminal", "to one process"])
def test_ctrl_c_leaves_no_process(stop):
    """Ctrl-C in mid-training ends the demo quietly, and all its ranks with it."""
    assert stopped(stop, signal.SIGINT) == (130, "")


@pytest.mark.slow
def test_a_killed_demo_leaves_no_process():
    """Even SIGKILL of the process that started them leaves no rank behind."""
    assert stopped(os.kill, signal.SIGKILL) == (-signal.SIGKILL, "")
