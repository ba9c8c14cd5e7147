"""What a reader finds on the page: its rows, names, columns, tiles and colours."""

from __future__ import annotations

import json


def rows(page):
    return page.locator("tbody tr[data-row]")


def names(page):
    return rows(page).locator("td.cell-name").all_text_contents()


def summary(page):
    return page.locator("#summary").inner_text()


def settle(page):
    """Let the page draw what it was asked to; its policy forbids Playwright to poll for more."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


def search(page, text):
    page.get_by_role("searchbox", name="Search").fill(text)
    settle(page)


def column(page, title):
    """The texts of one column of the rows in sight."""
    titles = page.locator("thead th").all_inner_texts()
    at = [it.rstrip(" ↑↓") for it in titles].index(title) + 1
    return rows(page).locator(f"td:nth-child({at})").all_inner_texts()


def legend(page):
    return page.locator("#legend .value").all_inner_texts()


def tile(page, name):
    """The middle of a variable's tile, which its row outlines."""
    page.locator(f"tbody [title={json.dumps(name, ensure_ascii=False)}]").hover()
    box = page.locator(".outline.over").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def colour_at(page, x, y):
    """The colour of the treemap at a point of the window."""
    return page.evaluate(
        """([x, y]) => {
            const canvas = document.querySelector("canvas"), box = canvas.getBoundingClientRect();
            const copy = document.createElement("canvas").getContext("2d");
            copy.drawImage(canvas, box.left - x, box.top - y, box.width, box.height);
            return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }""",
        [x, y],
    )
