"""What a package says of where it comes from: its project's addresses, and a README with them.

The repository's own address is not in it, as a clone, a mirror and a fork have others: whoever
builds a release says it in the environment. A package index knows no file beside the README:
without an address, the package names none, and the links of its README become text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE = "TORCHCREATOR_ADDRESS"
PAGES = {
    "Documentation": "/blob/main/docs/index.md",
    "Changelog": "/blob/main/CHANGELOG.md",
    "Issues": "/issues",
}
_IMAGE, _LINK = (rf"{sign}\[([^\]]*)\]\((?!https?://)([^)]+)\)" for sign in ("!", "(?<!!)"))


class Addresses(MetadataHookInterface):
    """Puts both into the metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put them in, for the repository that the environment names."""
        repository = os.environ.get(VARIABLE, "").rstrip("/").removesuffix(".git")
        if repository and not repository.startswith("https://"):
            message = f"{VARIABLE} is {repository!r}: write https:// and where the repository is."
            raise ValueError(message)
        text = description(Path(self.root, "README.md").read_text(encoding="utf-8"), repository)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        if repository:
            pages = {word: repository + page for word, page in PAGES.items()}
            metadata["urls"] = {"Repository": repository, **pages}


def description(readme: str, repository: str) -> str:
    """Return a README whose links lead somewhere from anywhere.

    Args:
        readme: Its text.
        repository: Where the files are that it links to; empty where that is not known.
    """
    if repository:
        text = re.sub(_IMAGE, rf"![\1]({repository}/raw/main/\2)", readme)
        return re.sub(_LINK, rf"[\1]({repository}/blob/main/\2)", text)
    text = readme.partition("## Read on")[0]
    return re.sub(_LINK, r"\1", re.sub(rf"{_IMAGE}\n+", "", text))
