"""What a package says of where it comes from: its project's addresses, as an index shows them.

The repository's own address is not in it, as a clone, a mirror and a fork have others: whoever
builds a release says it in the environment. Without one the package names none.
"""

from __future__ import annotations

import os
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE = "TORCHCREATOR_ADDRESS"
PAGES = {
    "Documentation": "/blob/main/docs/index.md",
    "Changelog": "/blob/main/CHANGELOG.md",
    "Issues": "/issues",
}


class Addresses(MetadataHookInterface):
    """Puts the addresses into the metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put them in, where the repository's is known."""
        metadata["urls"] = addresses(os.environ.get(VARIABLE, ""))


def addresses(repository: str) -> dict[str, str]:
    """Return the project's addresses by what an index calls them.

    Args:
        repository: The address of the repository; empty for none.
    """
    if not repository:
        return {}
    if not repository.startswith("https://"):
        message = f"{VARIABLE} is {repository!r}: write https:// and where the repository is."
        raise ValueError(message)
    base = repository.rstrip("/").removesuffix(".git")
    return {"Repository": base, **{word: base + page for word, page in PAGES.items()}}
