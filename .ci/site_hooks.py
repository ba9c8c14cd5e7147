"""Hooks of the site's build: files outside docs/ become pages, diagrams follow the palette.

A page links to an example or the README as they lie in the repository, so that the link works
where the repository is browsed. The site has to have those files too.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}

FOUND_FIRST = {"recipes.md": 4.0, "quickstart.md": 2.0}

FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(\[[^\]]+\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
DIAGRAM = re.compile(r'<img [^>]*src="[^"]*?\bimages/([\w-]+\.svg)"[^>]*>')
"""Drawn by hand, in colours of the page; plots in folders of their own stay pictures."""
ENTRY = re.compile(r"^\| `([\w.]+)` \|", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of files outside docs/."""
    for source in ("CHANGELOG.md", "CONTRIBUTING.md"):
        text = _links((ROOT / source).read_text(), source)
        files.append(File.generated(config, PAGES[source], content=text))
    for target in sorted(_outside(files)):
        page = File.generated(
            config,
            f"files/{target}.md",
            content=_listing(ROOT / target),
            inclusion=InclusionLevel.NOT_IN_NAV,
        )
        files.append(page)
    return files


def on_page_markdown(markdown: str, page: Page, **kwargs: Any) -> str:
    """Lead links out of docs/ to the pages made of those files, names to their entries."""
    page.meta["search"] = {"boost": _boost(page.file.src_uri)}
    if page.file.generated_by:
        return markdown
    if page.file.src_uri == "reference.md":
        markdown = ENTRY.sub(r"| [`\1`][torchcreator.\1] |", markdown)
    return _links(markdown, f"docs/{page.file.src_uri}")


def on_page_content(html: str, **kwargs: Any) -> str:
    """Put diagrams into the page itself, where its colours reach them."""
    return DIAGRAM.sub(lambda found: (ROOT / "docs/images" / found[1]).read_text(), html)


def _boost(uri: str) -> float:
    """Return how early a page comes in the search: what is read first, first; listings last."""
    if uri in FOUND_FIRST:
        return FOUND_FIRST[uri]
    return 0.2 if uri.startswith(("files/", "api/", "reference", "changelog")) else 1.0


def _outside(files: Files) -> set[str]:
    """Return the files and folders of the repository that pages link to, but for `PAGES`."""
    found = set()
    for file in files.documentation_pages():
        source = f"docs/{file.src_uri}"
        for _, target, _ in LINK.findall("".join(FENCED.split(file.content_string)[::2])):
            path = _path(source, target)
            if path is not None and not path.startswith("docs/") and path not in PAGES:
                found.add(path)
    return found


def _links(markdown: str, source: str) -> str:
    """Return the text of a file with its links as its page needs them."""
    parts = FENCED.split(markdown)
    parts[::2] = [LINK.sub(lambda link: _link(link, source), part) for part in parts[::2]]
    return "".join(parts)


def _link(link: re.Match[str], source: str) -> str:
    path = _path(source, link[2])
    if path is None:
        return link[0]
    page = path.removeprefix("docs/") if path.startswith("docs/") else PAGES.get(path)
    here = posixpath.dirname(PAGES.get(source, source.removeprefix("docs/")))
    return f"{link[1]}{posixpath.relpath(page or f'files/{path}.md', here)}{link[3]}"


def _path(source: str, target: str) -> str | None:
    """Return where a link leads, from the repository's root; None if not into it."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    return path if "://" not in target and (ROOT / path).exists() else None


def _listing(path: Path) -> str:
    """Return a page with a file, or with the Python files of a folder."""
    sources = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    shown = [source for source in sources if source.name != "__init__.py"]
    return f"# {path.relative_to(ROOT).as_posix()}\n\n" + "\n".join(_blocks(shown))


def _blocks(sources: list[Path]) -> Iterator[str]:
    for source in sources:
        language = "python" if source.suffix == ".py" else "text"
        if len(sources) > 1:
            yield f"## {source.relative_to(ROOT).as_posix()}\n"
        yield f"```{language}\n{source.read_text()}```\n"
