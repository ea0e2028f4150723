"""The report in a real Chromium, from a file: ten thousand rows searched, filtered and paged, and no word broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.tables import make_error, make_row, make_run, make_tracks, write_tracks
from tonearm.report.page import write_report

NUM_ROWS = 10_000
# Of a single filter, with everything else that the machine has to do; alone it takes some 20 ms.
FILTERED_IN_MS = 1000
# The words of visible text that stand on two lines, paths taken apart at their slashes.
BROKEN_WORDS = r"""() => {
  const broken = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    if (!node.parentElement.checkVisibility() || node.parentElement.closest("script, style, svg, option")) continue;
    for (const match of node.data.matchAll(/[^\s\/-]+/gu)) {
      const range = document.createRange();
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      const lines = new Set([...range.getClientRects()].map((rectangle) => Math.round(rectangle.top)));
      if (lines.size > 1 && !/[\u2e80-\u9fff]/.test(match[0])) broken.push(match[0]);
    }
  }
  return broken;
}"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tenth of it is made, and the rest are the same songs in other folders."""
    folder = tmp_path_factory.mktemp("library")
    make_tracks(folder, NUM_ROWS // 10, seed=3, error_share=0.05)
    table = pq.read_table(folder / "tracks")
    for number in range(1, 10):
        uris = pa.array([uri.replace("s3://records/", f"s3://records/{number}/") for uri in table["uri"].to_pylist()])
        keys = pa.array(np.arange(len(table)) + number * 10_000)
        part = table.set_column(0, table.schema.field(0), keys).set_column(1, table.schema.field(1), uris)
        pq.write_table(part, folder / "tracks" / f"more-{number}.parquet")
    write_report(str(folder), make_run())
    return folder


@pytest.fixture(scope="module")
def rows(library: Path) -> pd.DataFrame:
    return pq.read_table(library / "tracks").to_pandas()


@pytest.fixture
def page(browser: Browser, library: Path) -> Iterator[Page]:
    yield from opened(browser, library / "report.html", 1200, 900)


def opened(browser: Browser, path: Path, width: int, height: int) -> Iterator[Page]:
    """Yield the page; afterwards it must have raised nothing and loaded nothing else."""
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    wrong: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text))
    page.on("request", lambda request: wrong.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    expect(page.locator(".filters")).to_be_visible()
    yield page
    assert not wrong
    context.close()


def found(page: Page) -> int:
    text = page.locator(".filters output").inner_text()
    return 0 if text == "Nothing found" else int(text.partition(" of ")[2].split(" ")[0].replace(",", ""))


def titles(page: Page) -> list[str]:
    return page.locator("#tracks tbody th .clip:first-child").all_inner_texts()


def test_ten_thousand_rows_are_searched_and_filtered_offline(page: Page, rows: pd.DataFrame) -> None:
    ok = rows[rows["status"] == "ok"]
    assert found(page) == NUM_ROWS and page.locator("#tracks tbody tr").count() == 100
    page.locator("input[name=text]").fill("bjork MIDNIGHT")
    is_his, is_called = ok["artist"] == "Ólafur & Björk", ok["title"].fillna(ok["uri"]).str.contains("idnight")
    in_place = ok["uri"].str.contains("idnight")
    expected = int((is_his & (is_called | in_place)).sum())
    expect(page.locator(".filters output")).to_contain_text(f"of {expected:,} found among 10,000")
    page.locator("select[name=genre]").select_option(label=f"jazz ({(ok['genre'] == 'jazz').sum():,})")
    assert found(page) == int((is_his & (is_called | in_place) & (ok["genre"] == "jazz")).sum())
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".filters output")).to_have_text("1–100 of 10,000")
    took_ms = page.evaluate(
        """() => {
          const started = performance.now();
          const genre = document.querySelector("select[name=genre]");
          genre.value = genre.options[1].value;
          genre.dispatchEvent(new Event("change"));
          document.body.getBoundingClientRect();
          return performance.now() - started;
        }"""
    )
    assert found(page) == ok["genre"].value_counts().iloc[0]
    assert took_ms < FILTERED_IN_MS
    page.locator("input[name=text]").fill("no such song")
    expect(page.locator(".filters output")).to_have_text("Nothing found")


def test_each_failed_track_can_be_reached(page: Page, rows: pd.DataFrame) -> None:
    failed = rows[rows["status"] == "error"]
    page.locator("select[name=state]").select_option("failed")
    assert found(page) == len(failed) > 300
    code, number = failed["error_code"].value_counts().index[0], int(failed["error_code"].value_counts().iloc[0])
    section = page.locator("article.failure", has=page.get_by_role("heading", name=code, exact=True))
    section.get_by_role("button", name="Show all of them").click()
    expect(page.locator(".filters output")).to_contain_text(f"of {number:,} found")
    shown = set(page.locator("#tracks tbody small.copied").all_inner_texts())
    while not page.get_by_role("button", name="Next").is_disabled() and page.locator(".pager").is_visible():
        page.get_by_role("button", name="Next").click()
        shown |= set(page.locator("#tracks tbody small.copied").all_inner_texts())
    assert shown == set(failed.loc[failed["error_code"] == code, "uri"])


def test_columns_sort_over_all_pages(page: Page, rows: pd.DataFrame) -> None:
    page.get_by_role("button", name="Score").click()
    page.get_by_role("button", name="Score").click()
    best = f"{rows['genre_score'].max():.2f}"
    assert page.locator("#tracks tbody tr").first.locator(".figure").inner_text() == best
    page.locator("select[name=state]").select_option("ok")
    assert page.locator("#tracks tbody tr").first.locator(".figure").inner_text() == best, "the order stays"


def test_words_in_the_table_are_not_broken(page: Page) -> None:
    assert page.evaluate(BROKEN_WORDS) == []
    page.locator("select[name=state]").select_option("failed")
    assert page.evaluate(BROKEN_WORDS) == []


LONG = "Ultraszuperhosszúegybeírtszóamelyikseholsemtörhetőmegésmégaképernyőnélisszélesebbmintamekkora" * 3


def test_long_words_end_in_dots_and_files_can_be_opened(browser: Browser, tmp_path: Path) -> None:
    random, music = np.random.default_rng(0), tmp_path / "my music"
    names = ["plain.mp3", "100% #1 ü?.mp3", "</script><b>.mp3"]
    tags = [{"label": f"{LONG} tag", "score": 0.9, "max_score": 0.9, "max_start_s": 0.0}]
    rows = [make_row(n, random, uri=str(music / name), title=None, genre=LONG) for n, name in enumerate(names)]
    rows += [make_row(3, random, uri="https://host/a b/c.mp3", title=LONG, artist=LONG, tags=tags)]
    rows += [make_error(4, random, uri=f"s3://records/{LONG}.mp3", error_message=f"{LONG} </script>")]
    write_tracks(tmp_path / "out", rows)
    write_report(str(tmp_path / "out"), make_run())
    music.mkdir()
    for page in opened(browser, tmp_path / "out" / "report.html", 1200, 900):
        assert page.evaluate("document.documentElement.scrollWidth") == 1200
        assert page.evaluate(BROKEN_WORDS) == []
        links = page.locator("#tracks tbody a").evaluate_all(
            "links => links.map((link) => [link.textContent, link.href])"
        )
        there = {name.rpartition(".")[0]: (music / name).as_uri() for name in names[:2]}
        assert there.items() <= dict(links).items()
        assert dict(links)[LONG] == "https://host/a%20b/c.mp3"
        assert page.locator("b", has_text="Nothing").count() == 0


def test_a_phone_shows_everything_without_scrolling_sideways(browser: Browser, library: Path) -> None:
    for page in opened(browser, library / "report.html", 390, 844):
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.locator("#tracks tbody tr").first.locator(".tags").bounding_box()["x"] < 390  # type: ignore[index]
        assert page.evaluate("[...document.querySelectorAll('.songs')].every((table) => table.scrollWidth <= 390)")
