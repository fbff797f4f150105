"""A real browser without a screen, and what a page in it looks like to one who reads it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDTHS = {"desktop": 1280, "phone": 390}
LEAST_CONTRAST = 4.5  # WCAG 2.1, success criterion 1.4.3

# Every element with text of its own: its colour's contrast with what is behind it, bars in cells included.
CONTRASTS = """() => {
  const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = text => {
    const [r, g, b] = rgb(text).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgb(colour)[3] !== 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    if (['TITLE', 'title', 'STYLE'].includes(element.tagName)) continue;
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const grounds = [behind(element), ...(style.backgroundImage.match(/rgba?\\([^)]*\\)/g) || [])];
    for (const ground of grounds) found.push([ratio(ink, ground), element.textContent.slice(0, 40), ink, ground]);
  }
  return found;
}"""


class Seen(NamedTuple):
    """An open page, what its console said, and the addresses it asked for, its own included."""

    page: Any
    said: list[str]
    asked: list[str]


@contextmanager
def open_browser() -> Iterator[Any]:
    """Chromium, or Chrome; skips the test where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the dev extra's playwright")
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} on the path")
    rights = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=[*QUIET, *rights])
        yield running
        running.close()


def open_page(browser: Any, address: str, width: int, **look: Any) -> Seen:
    """Open a page in a context of its own; its errors and dialogs count as said."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **look)
    seen = Seen(context.new_page(), [], [])
    seen.page.on("console", lambda message: seen.said.append(message.text))
    seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
    seen.page.on("dialog", lambda dialog: (seen.said.append("dialog"), dialog.dismiss()))
    seen.page.on("request", lambda request: seen.asked.append(request.url))
    seen.page.goto(address)
    return seen
