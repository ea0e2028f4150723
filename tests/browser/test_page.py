"""The page in a real Chromium, against a real server: results, a bad file, the keyboard, a phone, a microphone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.serving import Server, serving
from tonearm.demo.library import write_library
from tonearm.web.keys import new_key

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


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium; run python -m tests.servers.debian chromium (root)")
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def browser(server: Server) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    yield from opened(context.new_page(), server)
    context.close()


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


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("tracks")
    return [track.path for track in write_library(folder, num_tracks=3, seed=8, min_s=22, max_s=24)]


def card(page: Page, name: str) -> Locator:
    return page.locator(".track").filter(has_text=name)


def upload(page: Page, *files: Path) -> None:
    page.set_input_files("#files", list(files))


def expect_results(page: Page, count: int) -> None:
    expect(page.locator(".result:visible")).to_have_count(count, timeout=RESULT_TIMEOUT_MS)


def seconds(page: Page) -> float:
    return float(page.locator(".track audio").first.evaluate("audio => audio.currentTime"))


def test_files_in_labels_out(page: Page, tracks: list[Path]) -> None:
    expect(page.locator("#models")).to_contain_text("9 genres, 21 tags")
    upload(page, *tracks)
    expect_results(page, 3)
    expect(page.locator("#progress")).to_have_text("3 of 3 tracks done")
    first = page.locator(".track").last  # the newest is on top
    expect(first.locator(".genres li").first).to_contain_text("techno")
    expect(first.locator(".tags li")).to_have_count(10)
    assert first.locator(".timeline button").count() >= 2
    for name in ("spectrogram", "mel"):
        assert first.locator(f".{name}").evaluate("image => image.naturalWidth") > 100
    drawn = first.locator(".wave").evaluate(
        "wave => wave.getContext('2d').getImageData(0, 0, wave.width, wave.height).data.some(value => value > 0)"
    )
    assert drawn


def test_it_plays_where_one_clicks(page: Page, tracks: list[Path]) -> None:
    upload(page, tracks[0])
    expect_results(page, 1)
    box = page.locator(".wave").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    expect(page.locator(".play")).to_have_attribute("aria-label", "Pause")
    assert 10 < seconds(page) < 13
    page.locator(".play").click()
    expect(page.locator(".play")).to_have_attribute("aria-label", "Play")
    tag = page.locator(".tags button").nth(1)
    starts = tag.text_content() or ""
    tag.click()
    expect(page.locator(".clock")).to_contain_text(f"{starts.removeprefix('▶ ')} / 0:2")
    page.locator(".timeline button").last.click()
    expect(page.locator(".timeline button").last).to_have_class("now")
    assert seconds(page) > 9


def test_the_keyboard_is_enough(page: Page, tracks: list[Path]) -> None:
    upload(page, tracks[0])
    expect_results(page, 1)
    reached = []
    page.locator("h1").click()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.className || document.activeElement.id"))
    assert {"files", "record", "play", "wave"} <= set(reached)
    page.locator(".wave").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".wave")).to_have_attribute("aria-valuenow", "10")
    page.keyboard.press("Home")
    expect(page.locator(".wave")).to_have_attribute("aria-valuenow", "0")
    blocks = page.locator(".timeline button")
    blocks.first.focus()
    page.keyboard.press("ArrowRight")
    expect(blocks.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(blocks.nth(1)).to_have_class("now")


def test_a_bad_file_says_so_and_the_others_go_on(page: Page, tracks: list[Path], tmp_path: Path) -> None:
    short = tmp_path / "short.wav"
    soundfile.write(short, np.zeros(20), 16000)
    letter = tmp_path / "letter.mp3"
    letter.write_text("Dear Sir or Madam")
    upload(page, letter, short, tracks[1])
    expect_results(page, 1)
    expect(card(page, "letter.mp3")).to_contain_text("This is not an audio file")
    expect(card(page, "letter.mp3")).to_contain_text("What to do: send a file that FFmpeg reads")
    expect(card(page, "short.wav")).to_contain_text("too short to listen to")
    expect(page.locator("#progress")).to_have_text("1 of 3 tracks done, 2 failed")


def test_the_microphone(page: Page) -> None:
    page.locator("#record").click()
    expect(page.locator("#recorder")).to_have_text("Recording: 2 s", timeout=20_000)
    page.locator("#record").click()
    expect_results(page, 1)
    expect(page.locator(".name")).to_have_text("Recording 1")
    expect(page.locator(".facts")).to_contain_text("opus")
    page.locator(".play").click()
    expect(page.locator(".play")).to_have_attribute("aria-label", "Pause")


def test_a_phone_in_the_dark(browser: Browser, server: Server, tracks: list[Path]) -> None:
    context = browser.new_context(
        viewport={"width": 360, "height": 740}, color_scheme="dark", is_mobile=True, has_touch=True
    )
    for page in opened(context.new_page(), server):
        upload(page, tracks[2])
        expect_results(page, 1)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, ground.removeprefix("rgb(").removesuffix(")").split(","))) < 150
        for button in page.locator("button:visible, .button:visible").all():
            box = button.bounding_box()
            assert box is not None
            assert box["height"] >= 24  # what a finger hits (WCAG 2.5.8)
        page.locator(".play").tap()
        expect(page.locator(".play")).to_have_attribute("aria-label", "Pause")
    context.close()


def test_the_documentation_page(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/docs")
    expect(page.locator(".opblock")).to_have_count(8)
    expect(page.locator("body")).not_to_contain_text("Failed to load")


@pytest.mark.slow
def test_a_server_with_keys_asks_for_one(browser: Browser, tracks: list[Path]) -> None:
    """The page asks for an API key where the server has some, and answers once it has one."""
    key, line = new_key("person")
    with serving(TONEARM_API_KEYS=line) as guarded:
        context = browser.new_context()
        for page in opened(context.new_page(), guarded):
            upload(page, tracks[0])
            page.locator("#key").fill(key)
            page.locator("#access button").click()
            expect_results(page, 1)
            expect(page.locator("#access")).to_be_hidden()
        context.close()
