"""Take docs/report.png anew: python -m tests.browser.report_screenshot demo-out/report.html docs/report.png."""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests.browser.pages import CHROMIUM, FLAGS

WIDTH, HEIGHT = 1100, 1130


def main(report: str, out: str) -> None:
    """Write a picture of the top of a report."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(Path(report).absolute().as_uri())
        expect(page.locator(".filters")).to_be_visible()
        page.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
