"""The command line says what is wrong in one line, and knows what it is."""

from __future__ import annotations

import subprocess
import sys

import pytest

import torchcreator
from torchcreator.__main__ import main

COMPLAINTS = {
    "no command": ([], "the following arguments are required: command"),
    "unknown command": (["dance"], "invalid choice: 'dance'"),
    "unknown option": (["demo", "--ranks", "2"], "unrecognized arguments: --ranks 2"),
    "abbreviated option": (["demo", "--world", "2"], "unrecognized arguments: --world 2"),
    "no ranks": (["demo", "--world-size", "0"], "'0' is not a whole number from 1 to 32"),
    "too many ranks": (["demo", "--world-size", "33"], "'33' is not a whole number"),
    "no epochs": (["demo", "--epochs", "0"], "'0' is not a whole number from 1 to 1000"),
    "words for numbers": (["demo", "--epochs", "many"], "--epochs: 'many' is not a whole"),
    "superscript": (["demo", "--epochs", "²"], "'²' is not a whole number"),
    "negative seed": (["demo", "--seed", "-1"], "'-1' is not a whole number from 0"),
    "unknown device": (["demo", "--device", "tpu"], "--device: invalid choice: 'tpu'"),
}


@pytest.mark.parametrize(("arguments", "complaint"), COMPLAINTS.values(), ids=COMPLAINTS)
def test_a_bad_argument_is_one_line(arguments, complaint, capsys):
    """A bad argument ends the command with status 2 and one line that names it."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert complaint in printed.err
    assert printed.err.count("\n") == 1


def test_cuda_must_be_there(capsys, monkeypatch):
    """Asking for CUDA where there is none is told in one line, before anything starts."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["demo", "--device", "cuda"]) == 2
    assert capsys.readouterr().err == (
        "torchcreator demo: error: no CUDA device found; use --device cpu\n"
    )


@pytest.mark.parametrize("absent", [["sklearn"], ["rich"], ["sklearn", "rich"]], ids="+".join)
def test_the_extra_must_be_there(absent, capsys, monkeypatch):
    """Without what the extra brings, one line says what is missing and what to install."""
    for name in absent:
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["demo"]) == 2
    line = capsys.readouterr().err
    for name in absent:
        assert name.replace("sklearn", "scikit-learn") in line
    names = " ".join(name.replace("sklearn", "scikit-learn") for name in absent)
    assert line.endswith(f"not installed; run: pip install {names}\n")
    assert line.count("\n") == 1


def test_help_and_version(capsys):
    """``--help`` and ``--version`` print what they should and succeed."""
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"{torchcreator.__version__}\n"
    with pytest.raises(SystemExit, match="0"):
        main(["demo", "--help"])
    assert "--world-size N" in capsys.readouterr().out


def test_ctrl_c_is_no_traceback(monkeypatch):
    """Ctrl-C ends a command with the status that shells expect."""

    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("torchcreator._cli.commands._demo", interrupted)
    assert main(["demo"]) == 130


def test_the_command_line_is_read_without_torch():
    """``python -m torchcreator --help`` does not wait for torch."""
    code = (
        "import sys\n"
        "from torchcreator.__main__ import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit:\n"
        "    assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)
