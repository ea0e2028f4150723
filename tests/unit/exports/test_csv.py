"""CSV files have every track, and cells that a spreadsheet takes for what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.exported import BOOKKEEPING, read_csv, row
from tests.tables import make_tracks, write_tracks
from tonearm.exports.export import export
from tonearm.runs.rows.schema import TRACKS

NESTED = ("genre_scores", "tags", "windows", "genre_embedding", "tag_embedding")


def test_csv_has_every_track_with_its_scalars_and_best_tags(tmp_path: Path) -> None:
    make_tracks(tmp_path, 1500, error_share=0.1)
    counts = export(str(tmp_path), "csv", str(tmp_path / "out" / "t.csv"))
    assert (counts.num_tracks, counts.num_files) == (1500, 1)
    expected = pq.read_table(tmp_path / "tracks").to_pylist()
    written = read_csv(tmp_path / "out" / "t.csv")
    assert list(written[0]) == [n for n in TRACKS.names if n not in NESTED + BOOKKEEPING] + ["top_tags"]
    for cells, want in zip(written, expected, strict=True):
        assert int(cells["track_key"]) == want["track_key"]
        assert cells["uri"] == want["uri"] and cells["status"] == want["status"]
        assert cells["title"] == (want["title"] or "")
        assert cells["modified"] == want["modified"].isoformat()
        if want["status"] == "ok":
            assert float(cells["duration_s"]) == want["duration_s"]
            assert np.float32(cells["genre_score"]) == np.float32(want["genre_score"]), "every digit of it"
            best = cells["top_tags"].split("; ")
            assert [part.rpartition(":")[0] for part in best] == [tag["label"] for tag in want["tags"]]
            assert float(best[0].rpartition(":")[2]) == pytest.approx(want["tags"][0]["score"], rel=1e-3)
        else:
            assert cells["error_code"] == want["error_code"] and cells["top_tags"] == cells["genre"] == ""


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_cells_that_start_like_a_formula_are_escaped_in_csv(tmp_path: Path, start: str) -> None:
    hostile = f'{start}HYPERLINK("x"),\n"quoted"'
    write_tracks(tmp_path, [row(1, title=hostile, artist="R.E.M. = one")])
    export(str(tmp_path), "csv", str(tmp_path / "t.csv"))
    (cells,) = read_csv(tmp_path / "t.csv")
    assert cells["title"] == f"'{hostile}"
    assert cells["artist"] == "R.E.M. = one"


def test_negative_numbers_stay_numbers(tmp_path: Path) -> None:
    write_tracks(tmp_path, [row(1, track_key=-5)])
    export(str(tmp_path), "csv", str(tmp_path / "t.csv"))
    assert read_csv(tmp_path / "t.csv")[0]["track_key"] == "-5"
