"""One Chromium for this folder, and what every test of a page ends with.

Every test ends with a look at what the browser reported: no error, no message on the console, no
dialog, no request but the page itself.
"""

from __future__ import annotations

import pytest

from tests.support.browser import chromium
from torchcreator.report._page import page as html

browser = pytest.fixture(scope="package")(chromium)


@pytest.fixture
def show(browser, tmp_path):
    """Open the page of one or two documents, every variable with a row of its own unless `folded`.

    Afterwards, nothing may have gone wrong.
    """
    heard, contexts = [], []

    def show(document, before=None, *, folded=False, width=1360, height=860, **options):
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
        fold = page.locator("#fold")
        if fold.is_visible() and not folded:
            fold.click()
        return page

    yield show
    for context in contexts:
        context.close()
    assert [it for it in heard if not it.startswith("data:image/svg+xml")] == []
