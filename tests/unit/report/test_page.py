"""The report's page: well-formed, self-contained, and safe against hostile names."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.tables import RUN_ID, make_error, make_row, make_run, make_tracks, rows_of, write_listing, write_tracks
from tonearm.errors import DestinationError
from tonearm.report import text
from tonearm.report.figures import LibraryFigures, gather
from tonearm.report.page import ModelFacts, RunSummary, read_run, render_report, write_report
from tonearm.runs.run_summary import FallbackFacts

VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}


HOSTILE = '<script>alert("x")</script>'


class Page(HTMLParser):
    """A strict reading of a page: every element closed in order, the text and the attributes kept."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.text: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)
            if "td" in self.open or "th" in self.open:
                self.tables[-1][-1][-1] += data

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def headings(self) -> list[int]:
        return [int(tag[1]) for tag, _ in self.tags if re.fullmatch("h[1-6]", tag)]


def report(folder: Path, **changes: Any) -> Page:
    url = write_report(str(folder), make_run(**changes))
    assert url == str(folder / "report.html")
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_shows_those_figures(library: Path) -> None:
    page, rows = report(library), rows_of(library)
    ok = rows[rows["status"] == "ok"]
    assert f"Tracks labelled {len(ok):,} of {len(rows):,} in the library" in page.words
    assert f"{ok['duration_s'].sum() / 3600:,.0f} h" in page.words
    genres = next(table for table in page.tables if table[0][0] == "Genre")
    counts = ok["genre"].value_counts()
    assert {line[0]: int(line[1].split(" ·")[0].replace(",", "")) for line in genres[1:]} == counts.to_dict()
    means = ok.groupby("genre")["genre_score"].mean()
    assert {line[0]: line[3] for line in genres[1:]} == {name: f"{mean:.2f}" for name, mean in means.items()}
    for code, count in rows["error_code"].value_counts().items():
        assert f"{code} {count} tracks" in page.words
        assert text.ADVICE[str(code)][0] in page.words and text.ADVICE[str(code)][1] in page.words
    tracks = page.tables[-2]
    assert len(tracks) == 101, "the script shows the others"
    assert "All of them, by name, then all that failed." in page.words


def test_the_page_is_whole_and_accessible(library: Path) -> None:
    page = report(library, notice="These models know only synthesized music.")
    source = (library / "report.html").read_text(encoding="utf-8")
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "action", "poster", "data"):
            value = attributes.get(name)
            leads = tag == "a" and (value or "").startswith(("#", "./", "https://", "file:///"))
            assert value is None or leads or value == "data:,", (tag, value)
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", source.split("<body>")[0])
    assert page.headings()[0] == 1 and page.headings().count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings(), page.headings()[1:], strict=False))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        named = " ".join(attributes.get(name) or "" for name in ("aria-labelledby", "aria-describedby"))
        assert set(named.split()) <= set(ids)
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes.get("aria-labelledby")
        if tag == "a" and (attributes["href"] or "").startswith("#"):
            assert (attributes["href"] or "").removeprefix("#") in ids
    assert ("html", {"lang": "en"}) in page.tags
    assert "These models know only synthesized music." in page.words
    assert len(source) < 600_000


def test_the_policy_allows_exactly_the_page_s_own_script(library: Path) -> None:
    import base64
    import hashlib

    report(library)
    source = (library / "report.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", source, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in html.unescape(source)


def contrast(one: str, other: str) -> float:
    """Return the WCAG 2.2 contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = np.array([int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_have_enough_contrast_in_light_and_dark(library: Path) -> None:
    report(library)
    source = (library / "report.html").read_text(encoding="utf-8")
    schemes = [
        dict(re.findall(r"--([\w-]+): (#\w+);", block)) for block in re.findall(r":root \{(.*?)\}", source, re.S)
    ]
    assert len(schemes) == 2
    for colours in schemes:
        for ground in ("paper", "panel"):
            for name in ("ink", "muted", "first", "bad"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
            assert contrast(colours["second"], colours[ground]) >= 3
        assert contrast(colours["note-ink"], colours["note"]) >= 4.5


def test_names_with_markup_are_shown_as_text(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    hostile = {name: f"{HOSTILE}{name}" for name in ("title", "artist", "genre", "codec")}
    tag = {"label": f"{HOSTILE}tag", "score": 0.9, "max_score": 0.9, "max_start_s": 0.0}
    rows = [
        make_row(1, random, uri=f"s3://x/{HOSTILE}\"'&.mp3", tags=[tag], **hostile),
        make_error(2, random, uri=f"s3://y/{HOSTILE}.mp3", error_message=f"{HOSTILE}message", error_code="<b>"),
    ]
    write_tracks(tmp_path, rows)
    page = report(tmp_path, notice=f"{HOSTILE}notice", command=f"tonearm tag '{HOSTILE}'", settings={HOSTILE: "</pre>"})
    assert [attributes.get("type") for tag, attributes in page.tags if tag == "script"] == ["application/json", None]
    assert not any(tag == "b" and attributes for tag, attributes in page.tags)
    for name in ("title", "artist", "genre", "codec", "tag", "message", "notice"):
        assert f"{HOSTILE}{name}" in page.words


def test_other_scripts_and_very_long_names(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    titles = ["夜の音楽", "أغنية الليل", "Ночь", "🎺🎷", "x" * 5000, "e\u0301te\u0301", None]
    write_tracks(tmp_path, [make_row(n, random, title=title, uri=f"/m/{n} ü.mp3") for n, title in enumerate(titles)])
    page = report(tmp_path)
    for title in titles:
        assert (title or "6 ü") in page.words


def test_no_track_succeeded(tmp_path: Path) -> None:
    write_tracks(tmp_path, [make_error(n, np.random.default_rng(n)) for n in range(5)])
    page = report(tmp_path)
    assert "Tracks labelled 0 of 5 in the library" in page.words
    assert "Failed 5 100 % of the tracks" in page.words
    assert "No track has a genre." in page.words and "No track could be decoded" in page.words


def test_no_track_failed(tmp_path: Path) -> None:
    make_tracks(tmp_path, 30, error_share=0.0)
    page = report(tmp_path)
    assert "None: every track has been decoded and scored." in page.words
    assert "Failed 0 every track has its labels" in page.words


@pytest.mark.parametrize("head", ["genre", "tag"])
def test_a_head_that_was_off_is_named_and_has_no_columns(tmp_path: Path, head: str) -> None:
    nulls = {"genre": None, "genre_score": None, "genre_scores": None} if head == "genre" else {"tags": None}
    random = np.random.default_rng(0)
    write_tracks(tmp_path, [make_row(n, random, **nulls) for n in range(20)])
    page = report(tmp_path, **{f"{head}_model": None})
    assert f"The {head} head was off in this run" in page.words
    assert ("Score" in page.tables[-2][0]) == (head != "genre")
    assert ("Best tags" in page.tables[-2][0]) == (head != "tag")
    assert ("To review" in page.words) == (head != "genre")


def test_a_head_that_an_earlier_run_had_was_not_off(tmp_path: Path) -> None:
    """The last run has added tags to rows that have a genre: the page shows both."""
    make_tracks(tmp_path, 5)
    page = report(tmp_path, genre_model=None)
    assert "Genre model that of an earlier run; this one left its columns as they are" in page.words
    assert "Tag model that of an earlier run" not in page.words


def test_many_genres_end_in_one_line_of_others(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    write_tracks(tmp_path, [make_row(n, random, genre=f"genre {n % 500:03d}") for n in range(2000)])
    page = report(tmp_path)
    genres = next(table for table in page.tables if table[0][0] == "Genre")[1:]
    assert len(genres) == 21
    assert genres[-1][0] == "480 other genres" and genres[-1][1].startswith("1,920")


def test_what_is_out_of_sight_is_named_and_not_counted(tmp_path: Path) -> None:
    """Of a file that was replaced by one with an older time the one that is there is shown."""
    random = np.random.default_rng(0)
    moments = sorted(make_row(n, random)["modified"] for n in range(3))
    rows = [make_row(n, random, uri="/a.mp3", modified=moment, title=f"T{n}") for n, moment in enumerate(moments)]
    write_tracks(tmp_path, rows)
    write_tracks(tmp_path, [rows[0]], name="copy.parquet")
    write_listing(tmp_path, rows[:1])
    page = report(tmp_path)
    assert "Tracks labelled 1 of 1 in the library" in page.words
    assert "Tracks no longer listed 2: deleted, renamed or changed since; not counted above" in page.words
    assert "Replaced rows 1: their tracks have a later row; not counted above" in page.words
    assert "T0" in page.words and "T2" not in page.words


def test_a_missing_destination_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match="no tracks here"):
        write_report(str(tmp_path / "nowhere"), make_run())
    assert not (tmp_path / "nowhere").exists()


def test_without_a_run_the_last_one_is_shown(tmp_path: Path) -> None:
    make_tracks(tmp_path, 5)
    with pytest.raises(DestinationError, match=r"no finished run in runs/ \(there: none\)"):
        write_report(str(tmp_path))
    make_run(tmp_path, run_id="20240101T000000-aaaaaa-0000")
    make_run(tmp_path)
    write_report(str(tmp_path))
    assert f"run {RUN_ID}" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_run_without_speed_and_with_unknown_parts_is_read(tmp_path: Path) -> None:
    values = (
        make_run(speed=None, genre_model=None, notice=None).to_json().replace('"wall_s"', '"later": [1], "wall_s"', 1)
    )
    run = RunSummary.from_json(values)
    assert run.speed is None and run.genre_model is None
    assert "nothing left to do" in render_report("out", LibraryFigures(num_ok=1), run)


MEASURE = """
import resource, sys
from tests.tables import make_run
from tonearm.report.page import write_report
import pyarrow, pyarrow.dataset, jinja2, numpy
write_report(sys.argv[2], make_run())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_report(sys.argv[1], make_run())
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.processes
def test_a_hundred_thousand_rows_take_little_memory(tmp_path: Path) -> None:
    make_tracks(tmp_path / "one", 1000)
    table = pq.read_table(tmp_path / "one" / "tracks")
    (tmp_path / "many" / "tracks").mkdir(parents=True)
    for number in range(100):
        keys = np.arange(number * 1000, number * 1000 + 1000)
        uris = [f"{uri}/{number}" for uri in table["uri"].to_pylist()]
        part = table.set_column(0, table.schema.field(0), [keys]).set_column(1, table.schema.field(1), [uris])
        pq.write_table(part, tmp_path / "many" / "tracks" / f"part-{number:03d}.parquet")
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "many"), str(tmp_path / "one")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3], check=True)
    # 100,000 whole rows are 400 MB in memory, the columns that the report reads 130 MB.
    assert float(done.stdout) < 60, done.stdout
    assert "100,000 in the library" in (tmp_path / "many" / "report.html").read_text(encoding="utf-8")


def test_a_heads_fallback_is_told_beside_its_model(tmp_path: Path) -> None:
    facts = FallbackFacts("large", "sha256:0123456789abcdef", 0.62, 8311, 997, "openvino", "fp32", "cpu")
    make_tracks(tmp_path, 5)
    run = make_run(tmp_path, tag_model=ModelFacts("small", "sha256:fedc", "openvino", "fp32", 0.975, fallback=facts))
    assert read_run(str(tmp_path)) == run, "runs/*.json keeps it"
    page = render_report(str(tmp_path), gather(str(tmp_path)), run)
    told = "12% of 8,311 windows, below 0.62, went to large, revision sha256:0123456789abcdef"
    assert f"small, revision sha256:fedc, openvino fp32, windows of 0.975 s; {told}" in page
