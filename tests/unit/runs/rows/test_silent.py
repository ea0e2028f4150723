"""A track in which nothing can be heard has scores, and nobody names a genre for it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.tables import make_row, make_run, write_tracks
from tonearm.exports.export import export
from tonearm.report.figures import gather
from tonearm.report.page import render_report


@pytest.fixture
def library(tmp_path: Path) -> str:
    random = np.random.default_rng(0)
    changes = [
        {"silent": True, "genre": "rock", "genre_score": 0.1},
        {"silent": False, "genre": "jazz", "genre_score": 0.4},
        {"silent": None, "genre": "jazz", "genre_score": 0.6},
    ]
    write_tracks(tmp_path, [make_row(number, random, **each) for number, each in enumerate(changes)])
    return str(tmp_path)


def test_exports_name_no_genre(library: str, tmp_path: Path) -> None:
    export(library, "csv", str(tmp_path / "a.csv"))
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [(row["silent"], row["genre"]) for row in rows] == [("True", ""), ("False", "jazz"), ("", "jazz")]
    assert rows[0]["genre_score"] == "0.1"
    export(library, "jsonl", str(tmp_path / "a.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["genre"] for line in lines] == [None, "jazz", "jazz"] and lines[0]["genre_scores"]


@pytest.mark.parametrize("by", ["genre", "tag"])
def test_playlists_have_one_of_the_silent(library: str, tmp_path: Path, by: str) -> None:
    export(library, "m3u", str(tmp_path / "lists"), by=by, min_score=0.0)
    texts = {path.stem: path.read_text() for path in (tmp_path / "lists").glob("*.m3u8")}
    assert texts["silent"].count("#EXTINF") == 1 and "00000/01 " in texts["silent"]
    assert not any("00000/01 " in text for name, text in texts.items() if name != "silent")


def test_label_files_say_silent(library: str, tmp_path: Path) -> None:
    export(library, "audacity", str(tmp_path / "labels"))
    (text,) = [path.read_text() for path in (tmp_path / "labels").rglob("01 *.txt")]
    assert text.splitlines()[0].endswith("\tsilent") and len(text.splitlines()) == 1


def test_the_report_counts_them_apart(library: str) -> None:
    figures = gather(library)
    assert figures.silent.num_tracks == 1 and list(figures.genres) == ["jazz"]
    assert [round(float(score), 1) for score in figures.genre_scores] == [0.4, 0.6]
    assert figures.tracks["genre"].to_pylist() == ["silent", "jazz", "jazz"]
    assert set(figures.least_confident["genre"].to_pylist()) == {"jazz"}
    page = render_report("labels", figures, make_run())
    assert "1 genre in all" in page and "1 of them silent" in page
