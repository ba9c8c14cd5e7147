"""What the site's API pages need to know about our docstrings."""

from __future__ import annotations

import re
from typing import Any

import griffe
from latex2mathml.converter import convert

EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
FORMULA = re.compile(r":math:`([^`]+)`")
LITERAL = re.compile(r"::$", re.MULTILINE)
DISPLAYED = re.compile(r"^\.\. math::(.+?)(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)


class Docstrings(griffe.Extension):
    """Read ``Example:`` as a section, and formulas as MathML, which needs no script to be shown."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite a docstring before its sections are told apart."""
        if obj.docstring is not None:
            text = EXAMPLE.sub("Examples:", obj.docstring.value)
            text = DISPLAYED.sub(lambda formula: _mathml(formula[1], "block"), text)
            text = FORMULA.sub(lambda formula: _mathml(formula[1], "inline"), text)
            obj.docstring.value = LITERAL.sub(":", text)  # Markdown needs the indentation alone


def _mathml(formula: str, display: str) -> str:
    shown: str = convert(" ".join(formula.split()), display=display)
    # At the beginning of a line Markdown would take <math> for a paragraph of its own.
    return shown if display == "block" else f"<span>{shown}</span>"
