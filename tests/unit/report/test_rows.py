"""The report's rows: the first by a column, the tags that say most, and links that a browser opens."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from tonearm.report.rows import NUM_TAGS, FirstRows, Links, name_of, telling_only, to_json


def test_the_first_rows_of_many_batches_are_those_of_one_sort() -> None:
    random = np.random.default_rng(0)
    table = pa.table(
        {"score": random.integers(0, 9, 500), "uri": [f"/{number:03d}" for number in random.permutation(500)]}
    )
    rows = FirstRows("score", 10)
    for start in range(0, 500, 7):
        rows.add(table.slice(start, 7))
    expected = table.sort_by([("score", "ascending"), ("uri", "ascending")]).slice(0, 10)
    assert rows.table(table.schema).to_pydict() == expected.to_pydict()
    assert FirstRows("uri", 3).table(table.schema).num_rows == 0


def test_a_track_shows_its_most_telling_tags() -> None:
    tags = [{"label": "Music", "score": 0.99}] + [{"label": f"t{number}", "score": number / 10} for number in range(8)]
    shown = telling_only(pa.chunked_array([[tags, None, []]])).to_pylist()
    assert [len(entries) for entries in shown] == [NUM_TAGS, 0, 0]
    assert [entry["label"] for entry in shown[0]] == ["t7", "t6", "t5", "t4", "t3"], "Music says nothing of a track"


@pytest.mark.parametrize(
    ("uri", "link"),
    [
        ("/music/rock/a b#.mp3", "./../rock/a%20b%23.mp3"),
        ("https://host/a/b%20c.mp3", "https://host/a/b%20c.mp3"),
        ("s3://bucket/a.mp3", None),
    ],
)
def test_a_link_leads_to_the_file_or_there_is_none(uri: str, link: str | None) -> None:
    assert Links("/music/labels").of(uri) == link


def test_a_report_in_a_store_links_to_files_by_their_whole_path() -> None:
    assert Links("s3://bucket/labels").of("/music/a b.mp3") == "file:///music/a%20b.mp3"


def test_rows_as_json_cannot_end_the_script_they_stand_in() -> None:
    tracks = pa.table(
        {
            "uri": ["/m/</script>\udcff.mp3".encode("utf-8", "backslashreplace").decode()],
            "title": ["</script>\u2028"],
            "artist": [None],
            "genre": ["rock"],
            "genre_score": [0.456],
            "tags": [[{"label": "x", "score": 0.5}]],
            "duration_s": [61.6],
        }
    )
    failed = pa.table({"uri": ["/m/b.mp3"], "error_code": ["corrupt"], "error_message": [None]})
    text = to_json(tracks, failed, Links("/m/labels"))
    assert "<" not in text and "\u2028" not in text
    values = json.loads(text)
    (row,) = values["rows"]
    assert row[2] == "</script>\u2028" and row[5:7] == [46, 62]
    assert values["labels"][row[4]] == "rock" and len(values["failed"]) == 1


def test_a_name_is_the_last_part_of_a_uri() -> None:
    assert name_of("s3://bucket/x/01 Blue.flac") == "01 Blue.flac"
