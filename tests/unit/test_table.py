"""Reading a destination's rows: streaming, versions, unfinished files, and what is said when there is nothing."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.tables import make_error, make_row, make_tracks, write_tracks
from tonearm.errors import DestinationError
from tonearm.library import table
from tonearm.library.schema import TRACKS


def day(number: int) -> datetime.datetime:
    return datetime.datetime(2025, 1, number, tzinfo=datetime.UTC)


def row(key: int, **changes: object) -> dict[str, object]:
    return make_row(key, np.random.default_rng(abs(key)), **{"track_key": key, **changes})


def test_scan_gives_every_row_once_in_batches_no_larger_than_asked(tmp_path: Path) -> None:
    make_tracks(tmp_path, 2500)
    batches = list(table.scan(str(tmp_path), ["track_key", "uri"], batch_rows=400))
    assert max(batch.num_rows for batch in batches) <= 400
    assert all(batch.schema.names == ["track_key", "uri"] for batch in batches)
    expected = pq.read_table(tmp_path / "tracks")
    assert pa.Table.from_batches(batches)["track_key"].to_pylist() == expected["track_key"].to_pylist()
    assert table.num_rows(str(tmp_path)) == 2500
    assert table.read_keys(str(tmp_path)).tolist() == sorted(expected["track_key"].to_pylist())


def test_scan_filters_by_columns_that_are_not_read(tmp_path: Path) -> None:
    make_tracks(tmp_path, 300, error_share=0.3)
    (failed,) = table.scan(str(tmp_path), ["error_code"], ds.field("status") == "error")
    assert failed.num_rows == sum(
        status == "error" for status in pq.read_table(tmp_path / "tracks")["status"].to_pylist()
    )
    assert failed.column("error_code").null_count == 0


def test_a_column_that_an_older_file_lacks_is_null(tmp_path: Path) -> None:
    write_tracks(tmp_path, [row(1)])
    path = tmp_path / "tracks" / "part-0.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["album"]), path)
    (batch,) = table.scan(str(tmp_path), ["album", "title"])
    assert batch["album"].to_pylist() == [None]


def test_latest_takes_the_newest_version_then_the_last_run_then_the_highest_key(tmp_path: Path) -> None:
    rows = [
        row(1, uri="/m/a.mp3", modified=day(1)),
        row(2, uri="/m/a.mp3", modified=day(3), status="error", error_code="corrupt"),
        row(3, uri="/m/a.mp3", modified=day(2)),
        row(9, uri="https://h/b.mp3", modified=None, run_id="20250101T000000-x"),
        row(4, uri="https://h/b.mp3", modified=None, run_id="20250201T000000-x"),
        row(5, uri="/m/c.mp3", modified=day(1)),
        row(6, uri="/m/c.mp3", modified=day(1)),
        row(-7, uri="/m/D.mp3", modified=None),
        row(8, uri="/m/d.mp3", modified=day(1), run_id=None),
    ]
    write_tracks(tmp_path, rows[:4], name="a.parquet")
    write_tracks(tmp_path, rows[4:], name="b.parquet")
    newest = table.latest(str(tmp_path))
    assert newest.keys.tolist() == [-7, 2, 4, 6, 8]
    assert newest.num_older == 4
    batches = table.scan(str(tmp_path), ["uri"], keys=newest.keys)
    found = sorted(uri for batch in batches for uri in batch["uri"].to_pylist())
    assert found == ["/m/D.mp3", "/m/a.mp3", "/m/c.mp3", "/m/d.mp3", "https://h/b.mp3"]


def test_a_file_with_a_pending_mark_is_left_out(tmp_path: Path) -> None:
    write_tracks(tmp_path, [row(1)], name="abc_000000.parquet")
    write_tracks(tmp_path, [row(2)], name="xyz_000000.parquet")
    marks = tmp_path / "_checkpoint" / "0123456789abcdef"
    marks.mkdir(parents=True)
    (marks / "abc_000000.parquet").touch()
    (marks / "xyz.pending.parquet").touch()
    assert table.read_keys(str(tmp_path)).tolist() == [1]


@pytest.mark.parametrize("layout", ["missing", "empty", "other"])
def test_a_destination_without_tracks_says_what_to_do(tmp_path: Path, layout: str) -> None:
    if layout != "missing":
        (tmp_path / "out" / "tracks").mkdir(parents=True)
    if layout == "other":
        (tmp_path / "out" / "tracks" / "notes.txt").write_text("no table")
    with pytest.raises(
        DestinationError, match=r"no tracks here \(expected .*tracks/\*\.parquet\).*tonearm tag SOURCE --out"
    ):
        table.open_tracks(str(tmp_path / "out"))


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    make_tracks(tmp_path, 10)
    (tmp_path / "tracks" / "torn.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(DestinationError, match=r"torn\.parquet.*delete that file"):
        list(table.scan(str(tmp_path), ["uri"]))


def test_an_empty_table_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "tracks").mkdir()
    pq.write_table(TRACKS.empty_table(), tmp_path / "tracks" / "none.parquet")
    assert table.num_rows(str(tmp_path)) == 0
    assert list(table.scan(str(tmp_path), ["uri"])) == []
    assert table.latest(str(tmp_path)).keys.tolist() == []


def test_failed_rows_have_nulls_where_they_have_nothing(tmp_path: Path) -> None:
    write_tracks(tmp_path, [make_error(1, np.random.default_rng(0))])
    (batch,) = table.scan(str(tmp_path), ["genre", "tags", "duration_s"])
    assert batch.to_pylist() == [{"genre": None, "tags": None, "duration_s": None}]
