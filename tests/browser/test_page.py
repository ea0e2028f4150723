"""The page in a real Chromium, against a real server: results, a bad file, the keyboard, a phone, a microphone."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.pages import (
    card,
    clipboard,
    download,
    expect_given_up,
    expect_in_hand,
    expect_results,
    opened,
    seconds,
    slow_uploads,
    upload,
)
from tests.serving import Server, serving
from tonearm.demo import genre_model_path, tag_model_path
from tonearm.demo.library import write_library
from tonearm.demo.songs import RATE, compose
from tonearm.exports.audacity import head_labels, track_labels
from tonearm.heads import head_of
from tonearm.runs.rows.telling_tags import most_telling
from tonearm.web.requests.keys import new_key


@pytest.fixture(scope="module")
def server(browser: Browser) -> Iterator[Server]:  # which there may not be
    with serving() as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    yield from opened(context.new_page(), server)
    context.close()


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("tracks")
    return [track.path for track in write_library(folder, num_tracks=3, seed=8, min_s=22, max_s=24)]


@pytest.fixture(scope="module")
def medley(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of two genres, half a minute each."""
    path = tmp_path_factory.mktemp("medley") / "medley.flac"
    parts = [compose(genre, 7, 31.0).samples.mean(axis=0) for genre in ("techno", "classical")]
    soundfile.write(path, np.concatenate(parts), RATE)
    return path


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory, medley: Path) -> Path:
    """Return a file that takes the models a while: an hour and a half."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    samples, rate = soundfile.read(medley)
    soundfile.write(path, np.tile(samples[:: rate // 8000], 90), 8000, subtype="PCM_U8")
    return path


def test_files_in_labels_out(page: Page, tracks: list[Path]) -> None:
    expect(page.locator("#models")).to_contain_text("9 genres, 21 tags")
    expect(page.locator("#demo")).to_contain_text("do not trust their labels for real music")
    upload(page, *tracks)
    expect_results(page, 3)
    expect(page.locator("#progress")).to_have_text("3 of 3 tracks done")
    assert page.locator(".file").all_text_contents() == [track.name for track in tracks]  # as they were given
    first = page.locator(".track").first
    expect(first.locator(".genres li").first).to_contain_text("techno")
    expect(first.locator(".tags li")).to_have_count(10)
    assert first.locator(".tags .label").first.text_content() != "Music"  # which scores highest and says nothing
    expect(first.locator(".timeline button")).to_have_count(1)
    expect(page.locator("#news")).to_have_text(re.compile(r"0[123] .*: \w+"))  # for those who do not see the cards
    for name in ("spectrogram", "mel"):
        assert first.locator(f".{name}").evaluate("image => image.naturalWidth") > 100
    drawn = first.locator(".wave").evaluate(
        "wave => wave.getContext('2d').getImageData(0, 0, wave.width, wave.height).data.some(value => value > 0)"
    )
    assert drawn


def test_a_click_on_the_timeline_plays_from_there(page: Page, medley: Path) -> None:
    upload(page, medley)
    expect_results(page, 1)
    expect(page.locator(".timeline button")).to_have_text(["techno", "classical"])  # windows of one genre are joined
    expect(page.locator(".legend li")).to_have_text(["techno", "classical"])
    box = page.locator(".wave").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    expect(page.locator(".play")).to_have_attribute("aria-label", "Pause")
    assert 30 < seconds(page) < 33
    page.locator(".play").click()
    expect(page.locator(".play")).to_have_attribute("aria-label", "Play")
    tag = page.locator(".tags button").nth(1)
    starts = tag.text_content() or ""
    tag.click()
    expect(page.locator(".clock")).to_contain_text(f"{starts.removeprefix('▶ ')} / 1:01")
    page.locator(".timeline button").last.click()
    expect(page.locator(".timeline button").last).to_have_class("now")
    assert 20 < seconds(page) < 33


def test_the_keyboard_is_enough(page: Page, medley: Path) -> None:
    upload(page, medley)
    expect_results(page, 1)
    reached = []
    page.locator("h1").click()
    for _ in range(35):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.classList[0] || document.activeElement.id"))
    assert {"files", "record", "play", "wave", "remove"} <= set(reached)
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


def test_the_page_fits_a_phone_in_dark_mode(
    browser: Browser, server: Server, tracks: list[Path], tmp_path: Path
) -> None:
    nameless = tmp_path / f"{'a name that is much too long ' * 5}.wav"
    nameless.write_bytes(b"not audio")
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme="dark", is_mobile=True, has_touch=True
    )
    for page in opened(context.new_page(), server):
        upload(page, tracks[2], nameless)
        expect_results(page, 1)
        expect(page.locator(".failure:visible")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        name = page.locator(".name").last
        assert name.evaluate("name => name.scrollWidth > name.clientWidth && getComputedStyle(name).textOverflow") == (
            "ellipsis"
        )
        expect(name).to_have_attribute("title", nameless.name)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, ground.removeprefix("rgb(").removesuffix(")").split(","))) < 150
        for button in page.locator("button:visible, .button:visible").all():
            box = button.bounding_box()
            assert box is not None
            assert box["height"] >= 24  # what a finger hits (WCAG 2.5.8)
        page.locator(".play").first.tap()
        expect(page.locator(".play").first).to_have_attribute("aria-label", "Pause")
    context.close()


def test_the_documentation_page(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/docs")
    expect(page.locator(".opblock")).to_have_count(11)
    expect(page.locator("body")).not_to_contain_text("Failed to load")


def test_axes(page: Page, medley: Path) -> None:
    import librosa

    upload(page, medley)
    expect_results(page, 1)
    expect(page.locator(".linear span")).to_have_text(["0 Hz", "2 kHz", "4 kHz", "6 kHz", "8 kHz"])
    marks = [f"{at_s // 60}:{at_s % 60:02d}" for at_s in range(0, 61, 5)]
    for times in page.locator(".times:visible").all():
        expect(times.locator("span")).to_have_text(marks)
    bands = librosa.mel_frequencies(130, fmin=0, fmax=8000)[1:-1]  # the centres of the picture's 128 rows
    for tick in page.locator(".bands span").all()[:-1]:
        hz = float(tick.get_attribute("data-hz") or 0)
        place = float(tick.evaluate("tick => parseFloat(tick.style.bottom)")) / 100
        assert abs(np.interp(hz, bands, (np.arange(128) + 0.5) / 128) - place) < 0.002


def test_progress_line_and_cancel(page: Page, tracks: list[Path]) -> None:
    cards = page.locator(".track")
    slow_uploads(page, 200_000)
    upload(page, tracks[0], *tracks, tracks[0])
    expect(cards.nth(0).locator(".state")).to_have_text(re.compile(r"Sending [1-9]\d? % of \d+\.\d MB · 0:0\d"))
    assert 0 < float(cards.nth(0).locator("progress").get_attribute("value") or 0) < 100
    expect(cards.nth(2).locator(".state")).to_have_text("Waiting: next in line")
    expect(cards.nth(3).locator(".state")).to_have_text("Waiting: 1 before it in line")
    cards.nth(2).locator(".cancel").click()
    expect(cards.nth(2).locator(".retry")).to_be_focused()
    expect(cards.nth(3).locator(".state")).to_have_text("Waiting: next in line")
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/v1/tag")):
        cards.nth(0).locator(".cancel").click()
    expect(cards.nth(3).locator(".state")).to_have_text(re.compile("Sending"))
    page.locator("#cancel-all").click()
    expect(page.locator("[data-state=cancelled]")).to_have_count(5)
    expect(page.locator("#progress")).to_have_text("0 of 5 tracks done, 5 cancelled")
    slow_uploads(page, -1)
    cards.nth(2).locator(".retry").click()
    expect_results(page, 1)


def test_what_is_cancelled_or_closed_is_not_worked_on(page: Page, server: Server, long_file: Path) -> None:
    first = len(server.lines)
    upload(page, long_file)
    expect(page.locator(".state")).to_have_text(re.compile(r"(Waiting and decoding|Scoring) · 0:0[1-9]"))
    expect_in_hand(server, 2)
    page.locator(".cancel").click()
    expect(page.locator(".why")).to_have_text("Cancelled")
    expect_given_up(server, first)
    page.locator(".retry").click()
    expect_in_hand(server, 2)
    first = len(server.lines)
    page.goto("about:blank")
    expect_given_up(server, first)


def test_a_busy_server_is_asked_again(page: Page, tracks: list[Path]) -> None:
    busy = {"error": "64 requests are in progress already", "code": "busy", "hint": "wait", "request_id": "1"}
    answers = [("2", 503), ("1", 429)]

    def refuse(route: Route) -> None:
        if not answers:
            route.continue_()
            return
        wait, status = answers.pop(0)
        route.fulfill(status=status, headers={"Retry-After": wait}, json=busy)

    page.route("**/v1/tag", refuse)
    upload(page, tracks[0])
    expect(page.locator(".state")).to_have_text(re.compile(r"The server is busy; trying again in \d s \(try 2 of 8\)"))
    expect(page.locator(".state")).to_have_text(re.compile(r"trying again in 1 s \(try 3 of 8\)"))
    expect_results(page, 1)


# Their last digits differ with the windows that were scored together.
SCORED = ("genre_score", "genre_scores", "tags", "windows")


def test_results_can_be_downloaded(page: Page, server: Server, medley: Path, tracks: list[Path]) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    upload(page, medley)
    expect_results(page, 1)
    name, text = download(page, page.locator("[data-export=json]"))
    result = json.loads(text)
    answer = httpx.post(f"{server.url}/v1/tag", content=medley.read_bytes()).json()
    assert name == "medley.json"
    assert result == {"file": "medley.flac", **answer} | {key: result[key] for key in SCORED}
    assert [tag["label"] for tag in result["tags"]] == [
        tag["label"] for tag in answer["tags"]
    ]  # descending, as it came
    name, text = download(page, page.locator("[data-export=labels]"))
    expected = [
        f"{label.start_s:.6f}\t{label.end_s:.6f}\t{label.text}" for label in track_labels(result["windows"], 0.5)
    ]
    assert (name, text.splitlines()) == ("medley.txt", expected)
    page.locator("[data-export=copy-json]").click()
    expect(page.locator(".copied")).to_have_text("Copied")
    assert json.loads(clipboard(page)) == result
    page.evaluate("Object.defineProperty(navigator.clipboard, 'writeText', {value: () => Promise.reject()})")
    page.locator("[data-export=copy-text]").click()  # as over plain HTTP from another machine
    expect(page.locator(".copied")).to_have_text("Copied")
    copied = clipboard(page)
    assert f"Tags: {most_telling(result['tags'])[0]['label']} " in copied
    assert re.search(r"^0:00–0:3\d techno\n0:3\d–1:01 classical$", copied, re.MULTILINE)

    upload(page, tracks[0])
    expect_results(page, 2)
    name, text = download(page, page.locator("#csv-all"))
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["file"] for row in rows] == ["medley.flac", tracks[0].name]
    assert [row["genre"] for row in rows] == [result["genre"], "techno"]
    assert rows[0]["top_tags"].startswith(f"{result['tags'][0]['label']}:")
    name, text = download(page, page.locator("#json-all"))
    assert [entry["file"] for entry in json.loads(text)] == ["medley.flac", tracks[0].name]

    page.locator(".remove").first.click()
    expect(page.locator(".track")).to_have_count(1)
    expect(page.locator(".remove")).to_be_focused()
    upload(page, *tracks)
    page.locator("#remove-all").click()
    expect(page.locator(".track")).to_have_count(0)


def test_it_works_below_another_path(browser: Browser, server: Server) -> None:
    context = browser.new_context()
    asked: list[str] = []

    def proxy(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(response=route.fetch(url=route.request.url.replace("/music/", "/")))

    context.route(f"{server.url}/**", proxy)
    page = context.new_page()
    page.goto(f"{server.url}/music/")
    expect(page.locator("#models")).to_contain_text("9 genres, 21 tags")
    assert len(asked) > 8
    assert all(url.startswith(f"{server.url}/music/") for url in asked)
    context.unroute_all(behavior="ignoreErrors")
    context.close()


def test_a_wrong_key_is_told_from_a_missing_one(page: Page, server: Server, tracks: list[Path]) -> None:
    key, line = new_key("person")

    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == f"Bearer {key}":
            route.continue_()
            return
        body = {"error": "got no API key that is known here", "code": "unauthorized", "hint": "", "request_id": "1"}
        route.fulfill(status=401, json=body)

    page.route("**/v1/*", guard)
    page.reload()
    expect(page.locator("#access label")).to_have_text("This server wants an API key")
    upload(page, *tracks[:2])
    expect(page.locator(".state")).to_have_text(["Waiting for the API key"] * 2)
    for wrong, words in (
        (f"{key}x", "The server does not know this API key"),
        (line, "This is the line for the server's key file"),
        ("schlüssel", "This cannot be a key"),
    ):
        page.locator("#key").fill(wrong)
        page.locator("#access button").click()
        expect(page.locator("#access")).to_contain_text(words)
        expect(page.locator("#key")).to_be_focused()
    page.locator("#key").fill(f"key, shown this once: {key}")  # as it was printed
    page.locator("#access button").click()
    expect_results(page, 2)
    expect(page.locator("#access")).to_be_hidden()


@pytest.mark.slow
def test_further_heads_are_in_the_download(browser: Browser, medley: Path) -> None:
    """What heads besides genre and tags say is in the page's text, CSV and Audacity labels, as exports have it."""
    heads = ("--head", f"style={genre_model_path()}:single", "--head", f"mood={tag_model_path()}:multi")
    with serving(*heads) as running:
        context = browser.new_context()
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        for page in opened(context.new_page(), running):
            upload(page, medley)
            expect_results(page, 1)
            expect(page.locator(".columns h3")).to_have_text(["Genre", "Tags, the most telling first", "style", "mood"])
            result = json.loads(download(page, page.locator("[data-export=json]"))[1])
            lines = download(page, page.locator("[data-export=labels]"))[1].splitlines()
            labels = track_labels(result["windows"], 0.5)
            for head in (head_of("style", "single"), head_of("mood", "multi")):
                labels += head_labels(head, result["heads"][head.name]["windows"], 0.5)
            assert lines == [f"{label.start_s:.6f}\t{label.end_s:.6f}\t{label.text}" for label in labels]
            assert any("\tstyle: techno" in line for line in lines)
            (row,) = csv.DictReader(io.StringIO(download(page, page.locator("[data-export=csv]"))[1], newline=""))
            assert list(row)[-5:] == ["style", "style_score", "style_model", "mood_tags", "mood_model"]
            assert (row["style"], row["style_score"]) == (row["genre"], row["genre_score"])
            assert row["mood_tags"] == row["top_tags"]
            page.locator("[data-export=copy-text]").click()
            expect(page.locator(".copied")).to_have_text("Copied")
            copied = clipboard(page)
            assert f"style: {result['genre']} " in copied
            assert f"mood: {most_telling(result['tags'])[0]['label']} " in copied


@pytest.mark.slow
def test_a_server_with_keys_asks_for_one(browser: Browser, tracks: list[Path]) -> None:
    """The page asks for an API key where the server has some, and answers once it has one."""
    key, line = new_key("person")
    with serving(TONEARM_API_KEYS=line) as guarded:
        context = browser.new_context()
        for page in opened(context.new_page(), guarded):
            upload(page, tracks[0])
            page.locator("#key").fill(new_key("stranger").key)
            page.locator("#access button").click()
            expect(page.locator("#access")).to_contain_text("The server does not know this API key")
            page.locator("#key").fill(key)
            page.locator("#access button").click()
            expect_results(page, 1)
            expect(page.locator("#access")).to_be_hidden()
        context.close()
