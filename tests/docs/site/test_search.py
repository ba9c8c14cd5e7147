"""Whoever types what they want finds it: the site's own search, in a browser."""

from __future__ import annotations

import re

import pytest

FIRST = {
    # Each recipe, in words that people have for it
    "freeze": "recipes/#freeze-parameters-by-name",
    "freeze layers": "recipes/#freeze-parameters-by-name",
    "learning rate": "recipes/#learning-rate-or-weight-decay-by-name",
    "weight decay": "recipes/#learning-rate-or-weight-decay-by-name",
    "clamp": "recipes/#clamp-weights-or-bound-them-by-max_norm",
    "max_norm": "recipes/#clamp-weights-or-bound-them-by-max_norm",
    "bf16": "recipes/#create-in-bf16-or-on-a-device",
    "load weights": "recipes/#load-weights-at-creation",
    "70B": "recipes/#see-a-70b-model-without-memory",
    "summary": "recipes/#see-every-parameter-a-summary",
    "pretrained": "recipes/#constrain-freeze-or-cast-a-pretrained-model",
    "finetune pretrained model": "recipes/#constrain-freeze-or-cast-a-pretrained-model",
    "LoRA": "recipes/#lora-a-low-rank-update-on-a-frozen-model",
    "tie weights": "recipes/#tie-or-share-parameters",
    "share parameters": "recipes/#tie-or-share-parameters",
    "fake": "recipes/#fake-parameters-in-tests",
    "variable_creator_scope": "recipes/#port-a-creator-of-tensorflows-variable_creator_scope",
    "sum gradients": "recipes/#sum-gradients-instead-of-the-mean",
    "not synced": "recipes/#a-parameter-that-is-not-synced",
    "shard": "recipes/#shard-at-the-start",
    "fsdp": "recipes/#draw-only-this-ranks-part",
    "Lightning": "recipes/#with-accelerate-trainer-lightning",
    "accelerate": "recipes/#with-accelerate-trainer-lightning",
    # Other words that are typed
    "quickstart": "quickstart/",
    "install": "quickstart/",
    "FAQ": "why/#faq",
    "tensorflow": "recipes/#port-a-creator-of-tensorflows-variable_creator_scope",
    "keras": "coming-from/keras/",
    "Jupyter": "recipes/#see-every-parameter-a-summary",
    "Hugging Face": "recipes/",
    "quantize": "recipes/#lora-a-low-rank-update-on-a-frozen-model",
    "MaxNorm": "recipes/#clamp-weights-or-bound-them-by-max_norm",
    "from_checkpoint": "guides/checkpoints/",
}


def first_hits(page, words):
    """Return the first page that the search shows, and the first section of it if it shows one."""
    box = page.locator(".md-search__input")
    for typed in ("", words):
        box.fill(typed)
        box.press("End")  # the search listens to keys
        number = "> 0" if typed else "== 0"
        found = "document.querySelectorAll('.md-search-result__item').length"
        page.wait_for_function(f"{found} {number}", timeout=20_000)
    first = page.locator(".md-search-result__item").first
    links = [link.get_attribute("href") for link in first.locator("a").all()]
    return [re.sub(r"^http://[^/]+/|\?[^#]*", "", link) for link in links[:2]]


def test_thirty_phrases_are_asked():
    """The table of phrases is as long as it is said to be."""
    assert len(FIRST) >= 30


@pytest.mark.parametrize("words", FIRST)
def test_the_first_hit_is_the_page(words, page):
    """The first page that a phrase finds, or its first section, is the one that answers it."""
    hits = first_hits(page, words)
    want = FIRST[words]
    assert want in hits if "#" in want else hits[0].startswith(want)
