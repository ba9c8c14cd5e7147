"""One headless Chromium for a folder's tests.

With TORCHCREATOR_BROWSER=required, as in CI, a missing browser is a failure. A folder's fixture has
to be package-wide and no wider: Playwright leaves an event loop running while it is open, and tests
elsewhere run their own.
"""

from __future__ import annotations

import os
import shutil

import pytest

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
    """Skip, or fail where a browser is required."""
    if os.environ.get("TORCHCREATOR_BROWSER") == "required":
        pytest.fail(f"{reason}, and TORCHCREATOR_BROWSER=required", pytrace=False)
    pytest.skip(reason)


def chromium():
    """Yield a browser, and close it."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("Playwright is not installed: pip install playwright")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        missing("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=60_000)
        yield browser
        browser.close()
