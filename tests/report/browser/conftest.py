"""One Chromium for this folder, and what every test of a page ends with.

Every test ends with a look at what the browser reported: no error, no message on the console, no
dialog, no request but the page itself. With TORCHCREATOR_BROWSER=required, as in CI, a missing
browser is a failure. The browser is closed with the folder's last test, because Playwright leaves
an event loop running while it is open, and tests elsewhere run their own.
"""

from __future__ import annotations

import os
import shutil

import pytest

from torchcreator.report._page import page as html

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def missing(reason):
    if os.environ.get("TORCHCREATOR_BROWSER") == "required":
        pytest.fail(f"{reason}, and TORCHCREATOR_BROWSER=required", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="package")
def browser():
    """One headless Chromium for the folder."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("Playwright is not installed: pip install playwright")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        missing("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=60_000)
        yield chromium
        chromium.close()


@pytest.fixture
def show(browser, tmp_path):
    """Open the page of one or two documents; afterwards, nothing may have gone wrong."""
    heard, contexts = [], []

    def show(document, before=None, *, width=1360, height=860, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        file = tmp_path / f"page{len(contexts)}.html"
        file.write_text(html(document, before), encoding="utf-8")
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("dialog", lambda dialog: heard.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda request: heard.append(request.url))
        page.goto(file.as_uri())
        page.heard = heard
        heard.remove(file.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert [it for it in heard if not it.startswith("data:image/svg+xml")] == []
