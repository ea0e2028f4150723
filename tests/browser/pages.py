"""Chromium and what the tests of the page do with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.commands import wait_for
from tests.serving import Server

RESULT_TIMEOUT_MS = 60_000
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]


def opened(page: Page, server: Server) -> Iterator[Page]:
    """Yield the page; afterwards it must have raised nothing and loaded nothing from elsewhere."""
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if not is_own(request.url, server) else None)
    page.goto(server.url)
    yield page
    assert not wrong


def is_own(url: str, server: Server) -> bool:
    return url.startswith((server.url, "blob:", "data:"))


def card(page: Page, name: str) -> Locator:
    return page.locator(".track").filter(has_text=name)


def upload(page: Page, *files: Path) -> None:
    page.set_input_files("#files", list(files))


def expect_results(page: Page, count: int) -> None:
    expect(page.locator("[data-state=done] .result:visible")).to_have_count(count, timeout=RESULT_TIMEOUT_MS)


def seconds(page: Page) -> float:
    return float(page.locator(".track audio").first.evaluate("audio => audio.currentTime"))


def download(page: Page, button: Locator) -> tuple[str, str]:
    """Return the name and the text of what ``button`` saves."""
    with page.expect_download() as saved:
        button.click()
    return saved.value.suggested_filename, Path(saved.value.path()).read_bytes().decode()


def clipboard(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def slow_uploads(page: Page, bytes_per_s: int) -> None:
    """Let the page send so many bytes a second; -1 for any number."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_s}
    session.send("Network.emulateNetworkConditions", limits)


def log_lines(server: Server, route: str, first: int) -> list[dict[str, object]]:
    """Return the log lines of a route from the server's line ``first`` on."""
    lines = [json.loads(line) for line in server.lines[first:] if line.startswith("{")]
    return [line for line in lines if line["route"] == route]


def expect_given_up(server: Server, first: int) -> None:
    """Wait until the server has given up both of a page's requests, and has nothing in hand."""
    for route in ("/v1/tag", "/v1/view"):
        wait_for(
            lambda route=route: any(line["status"] == 499 for line in log_lines(server, route, first)),
            what=f"the end of {route}",
        )
    expect_in_hand(server, 0)


def expect_in_hand(server: Server, count: int) -> None:
    wait_for(lambda: server.metrics()["tonearm_requests_in_hand"] == count, what=f"{count} requests in hand")
