"""The page of ``inspect``: one HTML file that holds all it needs and fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from torchcreator.report._folding import Fold, folded

ASSETS = resources.files("torchcreator.report") / "assets"
# In the order in which they name each other.
SCRIPTS = ("elements", "variables", "colours", "treemap", "table", "aside", "header", "inspect")


def page(document: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> str:
    """Return the page about a document of ``inspect``, as the text of one HTML file.

    Args:
        document: What ``torchcreator inspect --json`` prints, format 1.
        before: An earlier document to compare with: the page then shows which variables were
            added, removed and changed, with the values before and after.

    Returns:
        The page. Its script, style and library are in it, and its content security policy lets
        the browser run and fetch nothing else.

    Example:
        >>> totals = {"variables": 0, "elements": 0, "bytes": 0, "trainable_elements": 0}
        >>> about = {"torchcreator": "0.1", "torch": "2.13", "model": "Empty", "totals": totals}
        >>> page({"format": 1, **about, "variables": []}).splitlines()[0]
        '<!doctype html>'
    """
    script = "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    script = f'"use strict";\n{{\n{script}}}\n'  # in a block, where its names are its own
    css, library = _asset("inspect.css"), _asset("d3-hierarchy.min.js")
    parts = {
        "policy": _policy(scripts=(library, script), style=css),
        "css": css,
        "documents": _embedded(
            {"after": document, "before": before, "folds": None if before else _folds(document)}
        ),
        "licence": _asset("d3-hierarchy.LICENSE.txt"),
        "library": library,
        "script": script,
    }
    # In one pass: what is put in is not read again.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html"))


def _folds(document: Mapping[str, Any]) -> list[Fold] | None:
    """Return the lines that are left where repeated blocks are one, if there are any."""
    variables = document["variables"]
    facts = [json.dumps({**variable, "name": "", "module": ""}) for variable in variables]
    lines = folded([variable["name"] for variable in variables], facts)
    return lines if len(lines) < len(variables) else None


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _policy(*, scripts: tuple[str, ...], style: str) -> str:
    """Return the content security policy that allows these texts and the icon, and no request."""
    allowed = " ".join(_fingerprint(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_fingerprint(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _fingerprint(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _embedded(value: Any) -> str:
    """Write JSON that no HTML parser takes for markup, whatever the names in it are."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # in ASCII
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")
