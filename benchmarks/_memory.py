"""How far one piece of work raises a process's memory, each in a process of its own.

Run by the questions about memory as ``python -m benchmarks._memory MODULE FUNCTION ARGUMENT...``:
the function is called once, for what it imports and starts, and then once more, measured.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from benchmarks._measure import SkipQuestion

MIB = 1 << 20
M_MMAP_THRESHOLD = -3  # glibc's name; it otherwise grows with what is freed


def peak(module: str, function: str, *arguments: str) -> float:
    """Return the MiB by which a call raises the process's own memory at most.

    Pages of files are left out: mapped, they can be dropped at any time.

    Raises:
        SkipQuestion: There is no ``/proc`` here, or what is needed is not installed.
    """
    if not Path("/proc/self/status").exists():
        raise SkipQuestion("memory is read from /proc, which is not here")
    command = [sys.executable, "-m", "benchmarks._memory", module, function, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    last = (run.stdout.splitlines() or [""])[-1]
    if last.startswith("skip "):
        raise SkipQuestion(last.removeprefix("skip "))
    if run.returncode:
        raise RuntimeError((run.stderr.splitlines() or ["no message"])[-1])
    return float(last)


def measured(work: Any) -> float:
    """Return by how many MiB the process's own memory rises at most while ``work`` runs."""
    done, highest = threading.Event(), [own()]
    before = highest[0]

    def watch() -> None:
        while not done.wait(1e-4):
            highest[0] = max(highest[0], own())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        made = work()
    finally:
        done.set()
        watcher.join()
    rise = max(highest[0], own()) - before
    del made
    return rise / MIB


def own() -> int:
    """Return the bytes of this process that are not pages of files."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(row for row in status if row.startswith("RssAnon")).split()[1]) * 1024


def main() -> None:
    """Measure the call that the command line names."""
    module, function, *arguments = sys.argv[1:]
    getattr(ctypes.CDLL(None), "mallopt", max)(M_MMAP_THRESHOLD, MIB)  # freed is then given back
    try:
        work = getattr(importlib.import_module(module), function)
        work(*arguments)
        gc.collect()
        print(measured(lambda: work(*arguments)))
    except SkipQuestion as reason:
        print(f"skip {reason}")


if __name__ == "__main__":
    main()
