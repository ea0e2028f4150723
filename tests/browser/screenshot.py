"""Take docs/page.png anew: python -m tests.browser.screenshot docs/page.png."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests.browser.pages import CHROMIUM, FLAGS, RESULT_TIMEOUT_MS, upload
from tests.serving import serving
from tonearm.demo.library import write_library


def main(out: str) -> None:
    """Write a picture of the page with one track on it."""
    with tempfile.TemporaryDirectory() as folder, serving() as server, sync_playwright() as playwright:
        track = write_library(folder, num_tracks=1, seed=12, min_s=38, max_s=40)[0]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 900, "height": 800})
        page.goto(server.url)
        upload(page, Path(track.path))
        expect(page.locator(".result:visible")).to_have_count(1, timeout=RESULT_TIMEOUT_MS)
        page.locator(".timeline button").nth(2).click()
        page.locator(".play").click()
        page.screenshot(path=out, full_page=True)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
