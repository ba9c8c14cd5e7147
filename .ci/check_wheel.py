"""Check a built wheel: it holds the package and nothing else, and works where it is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parent.parent
ASSETS = "torchcreator/report/assets"
LICENSES = {"licenses/LICENSE", f"licenses/{ASSETS}/d3-hierarchy.LICENSE.txt"}
METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", *LICENSES}

SMOKE_TEST = """
import sys
import torch
import torchcreator as tc

def bounded_below(next_creator, **kwargs):
    kwargs["constraint"] = "non_neg"
    return next_creator(**kwargs)

assert tc.__file__.startswith(sys.argv[1]), tc.__file__
with tc.creator_scope(bounded_below):
    layer = torch.nn.Linear(2, 3)
assert [spec.name for _, _, spec in tc.named_specs(layer)] == ["weight", "bias"]
layer(torch.ones(1, 2)).sum().backward()
torch.optim.SGD(layer.parameters(), lr=10.0).step()
assert all(p.min() == 0 for p in layer.parameters())
tc.inspect(layer).html("page.html")
assert "d3.treemap" in open("page.html", encoding="utf-8").read()
"""


def check_contents(wheel: Path) -> None:
    """Check that the wheel holds every file of the package, its metadata, and nothing else."""
    files = (path for path in (ROOT / "torchcreator").rglob("*") if path.is_file())
    expected = {
        path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts
    }
    with ZipFile(wheel) as archive:
        held = set(archive.namelist())
    about = {name for name in held if name.split("/")[0].endswith(".dist-info")}
    assert {"torchcreator/py.typed", f"{ASSETS}/page.html", f"{ASSETS}/inspect.js"} <= held
    assert held - about == expected, sorted((held - about) ^ expected)
    assert {name.split("/", 1)[1] for name in about} == METADATA, sorted(about)


def metadata_of(wheel: Path) -> str:
    """Return what a wheel says of itself."""
    with ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        return archive.read(metadata).decode()


def check_description(wheel: Path) -> None:
    """Check that the description is the README's, and that no link in it leads nowhere."""
    description = metadata_of(wheel).partition("\n\n")[2]
    first = re.search(r"^```python\n.*?^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    assert first is not None
    assert first[0] in description
    assert not re.findall(r"\]\((?!https?://)[^)]*\)", description)


def check_addresses(wheel: Path, told: str) -> None:
    """Check that the metadata name the project's addresses, if the builder was told the first."""
    found = dict(re.findall(r"^Project-URL: (\w+), (.*)$", metadata_of(wheel), re.M))
    repository = told.rstrip("/").removesuffix(".git")
    assert found.get("Repository", "") == repository, found
    expected = {"Repository", "Documentation", "Changelog", "Issues"} if told else set()
    assert set(found) == expected, found
    assert all(address.startswith(repository) for address in found.values()), found


def check_installed(wheel: Path) -> None:
    """Install the wheel beside the sources' environment, and use it: the library, the command."""
    with tempfile.TemporaryDirectory() as place:
        run("-m", "pip", "install", "--quiet", "--no-deps", "--target", place, wheel, cwd=ROOT)
        run("-c", SMOKE_TEST, place, cwd=place)
        run("-m", "torchcreator", "demo", "--epochs", "6", cwd=place)


def run(*arguments: str | Path, cwd: str | Path) -> None:
    """Run Python where ``cwd`` comes first on the path."""
    environment = os.environ | {"PYTHONPATH": str(cwd)}
    subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, check=True)


if __name__ == "__main__":
    built, *nameless = (Path(argument).resolve() for argument in sys.argv[1:])
    check_contents(built)
    check_description(built)
    check_addresses(built, os.environ.get("TORCHCREATOR_ADDRESS", ""))
    for wheel in nameless:  # whose builder was told of no address
        check_description(wheel)
        check_addresses(wheel, "")
    check_installed(built)
