"""Rows file by file: each file with the columns that it has, in order, and named when it cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.tables import make_row, write_tracks
from tonearm.errors import DestinationError
from tonearm.runs.destination import Destination
from tonearm.runs.rows import finished_rows


def ok(key: int, **changes: object) -> dict[str, object]:
    return make_row(key, np.random.default_rng(key), **{"track_key": key, "uri": f"/m/{key}.mp3", **changes})


@pytest.fixture
def place(tmp_path: Path) -> Destination:
    return Destination.of(str(tmp_path / "out"))


def keys_of(place: Destination) -> list[int]:
    return sorted(
        key for _, table in finished_rows.scan_files(place.url, ["track_key"]) for key in table["track_key"].to_pylist()
    )


def test_a_file_that_is_no_table_is_named(place: Destination) -> None:
    write_tracks(place.url, [ok(1)])
    Path(place.tracks, "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DestinationError, match=r"bad\.parquet cannot be read .*tag its tracks again"):
        keys_of(place)


def test_a_file_that_goes_away_meanwhile_is_named(place: Destination) -> None:
    write_tracks(place.url, [ok(1)], name="a.parquet")
    (file,) = [file for file, _ in finished_rows.scan_files(place.url, None)]
    Path(file.path).unlink()
    with pytest.raises(DestinationError, match=r"changed while it was read \(a\.parquet is gone\); run the command"):
        list(finished_rows.scan_files(place.url, None, [file]))


def test_each_file_has_the_columns_that_it_has(place: Destination) -> None:
    write_tracks(place.url, [ok(1, term=4)], name="new.parquet")
    new = pq.read_table(Path(place.tracks, "new.parquet"), partitioning=None)
    pq.write_table(new.drop_columns(["term"]).append_column("mine", [["x"]]), Path(place.tracks, "old.parquet"))
    found = {file.name: table for file, table in finished_rows.scan_files(place.url, ["track_key", "term"])}
    assert found["new.parquet"]["term"].to_pylist() == [4]
    assert found["old.parquet"].column_names == ["track_key"]
    whole = {file.name: table for file, table in finished_rows.scan_files(place.url, None)}
    assert whole["old.parquet"]["mine"].to_pylist() == ["x"]


def test_files_are_read_in_their_order(place: Destination) -> None:
    for number in range(70):
        write_tracks(place.url, [ok(100 - number)], name=f"{number:02}.parquet")
    pairs = list(finished_rows.scan_files(place.url, ["track_key"]))
    assert [file.name for file, _ in pairs] == [f"{number:02}.parquet" for number in range(70)]
    assert [table["track_key"].to_pylist() for _, table in pairs] == [[100 - number] for number in range(70)]
    some = [file for file, _ in pairs][2:4]
    assert [file for file, _ in finished_rows.scan_files(place.url, None, some)] == some
    assert keys_of(place) == list(range(31, 101))
