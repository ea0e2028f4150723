"""The places of a destination, and its rows file by file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.tables import make_row, write_tracks
from tonearm.errors import DestinationError
from tonearm.runs.destination import Destination
from tonearm.runs.rows import finished_rows
from tonearm.runs.rows.ranking import among


def ok(key: int, **changes: object) -> dict[str, object]:
    return make_row(key, np.random.default_rng(key), **{"track_key": key, "uri": f"/m/{key}.mp3", **changes})


@pytest.fixture
def place(tmp_path: Path) -> Destination:
    return Destination.of(str(tmp_path / "out"))


def keys_of(place: Destination) -> list[int]:
    return sorted(
        key for _, table in finished_rows.scan_files(place.url, ["track_key"]) for key in table["track_key"].to_pylist()
    )


@pytest.mark.parametrize("url", ["s3://bucket/labels", "gs://bucket", "az://bucket/a/b", "memory://bucket/x"])
def test_a_store_is_a_destination(url: str) -> None:
    place = Destination.of(url)
    assert place.tracks == f"{url}/tracks"
    assert place.manifest == f"{url}/manifest"
    assert place.report == f"{url}/report.html"
    assert place.checkpoint("ab") == f"{url}/_checkpoint/ab"
    assert place.run("r") == f"{url}/runs/r.json"
    assert Destination(f"{url}/").join("a", "b") == f"{url}/a/b"


def test_a_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Destination.of("out").url == str(tmp_path / "out")
    assert Destination("/").join("tracks") == "/tracks"


@pytest.mark.parametrize(("url", "says"), [("https://h/x", "expected a folder, s3://"), ("s3://", "expected a bucket")])
def test_what_cannot_hold_rows_is_refused(url: str, says: str) -> None:
    with pytest.raises(DestinationError, match=says):
        Destination.of(url)


def test_a_file_that_is_no_table_is_named(place: Destination) -> None:
    write_tracks(place.url, [ok(1)])
    Path(place.tracks, "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DestinationError, match=r"bad\.parquet cannot be read .*tagged anew"):
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


def test_among_is_membership_in_sorted_keys() -> None:
    keys = np.array([2, 4, 6])
    assert among(np.array([1, 2, 3, 6, 7]), keys).tolist() == [False, True, False, True, False]
    assert among(np.array([1, 2]), np.empty(0, np.int64)).tolist() == [False, False]
    assert among(np.empty(0, np.int64), keys).tolist() == []
