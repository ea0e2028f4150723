"""Take docs/page.png anew: python -m tests.browser.screenshot docs/page.png."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from tests.browser.pages import CHROMIUM, FLAGS, expect_results, upload
from tests.serving import serving
from tonearm.demo.library import ENCODINGS, encode
from tonearm.demo.songs import compose


def main(out: str) -> None:
    """Write a picture of the page with one track on it, of three genres in turn."""
    with tempfile.TemporaryDirectory() as folder, serving() as server, sync_playwright() as playwright:
        parts = [compose(genre, 7, 30.7).samples for genre in ("ambient", "rock", "classical")]
        track, tags = Path(folder) / "01 Three Rooms.flac", {"title": "Three Rooms", "artist": "Kabel Nord"}
        encode(track, np.concatenate(parts, axis=1), ENCODINGS[0], tags)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 900, "height": 800})
        page.goto(server.url)
        upload(page, track)
        expect_results(page, 1)
        page.locator(".timeline button").nth(1).click()
        page.locator(".play").click()
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=out, full_page=True)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
