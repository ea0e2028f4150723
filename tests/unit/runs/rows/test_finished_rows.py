"""Columns of all finished files, read while other processes write, compact and prune."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.tables import make_error, make_row, write_tracks
from tonearm.errors import DestinationError
from tonearm.runs import compaction, resume
from tonearm.runs.destination import Destination
from tonearm.runs.places import KEY
from tonearm.runs.rows import finished_rows, track_files


@pytest.fixture
def place(tmp_path: Path) -> Destination:
    """Five files of four rows."""
    for number in range(5):
        write_tracks(tmp_path, rows(range(4 * number, 4 * number + 4)), name=f"w_{number}-0.parquet")
    return Destination.of(str(tmp_path))


def rows(keys: range, **changes: Any) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    return [make_row(key, random, track_key=key, **changes) for key in keys]


def keys_of(place: Destination, **how: Any) -> list[int]:
    found = finished_rows.read_finished(place.url, [KEY], lambda table: table[KEY].to_pylist(), **how)
    return [key for keys in found.values() for key in keys]


def before_the_read_of(monkeypatch: pytest.MonkeyPatch, number: int, step: Callable[[], object]) -> None:
    """Have ``step`` happen, as in another process, before the reader's ``number``-th read of a file."""
    real, numbers, guard = finished_rows._read_table, iter(range(1000)), threading.Lock()

    def read(*how: Any) -> pa.Table:
        with guard:
            is_due = next(numbers) == number
        if is_due:  # not under the lock: what happens reads too
            step()
        return real(*how)

    monkeypatch.setattr(finished_rows, "_read_table", read)


@pytest.mark.parametrize("number", range(5))
def test_a_compaction_between_the_look_and_any_read_is_looked_at_anew(
    place: Destination, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before_the_read_of(monkeypatch, number, lambda: compaction.compact(place))
    assert keys_of(place) == list(range(20))


def test_a_compaction_during_planning_is_noticed(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tonearm plan` asks what is done without the lock."""
    before_the_read_of(monkeypatch, 2, lambda: compaction.compact(place))
    assert resume.read_rows(place, {}).complete([]).tolist() == list(range(20))


def test_a_compaction_between_the_look_and_the_first_read(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    real = track_files.finished

    def finished(url: str) -> list[track_files.TrackFile]:
        found = real(url)
        monkeypatch.setattr(track_files, "finished", real)
        compaction.compact(place)
        return found

    monkeypatch.setattr(track_files, "finished", finished)
    assert keys_of(place) == list(range(20))


@pytest.mark.parametrize("number", range(5))
def test_rows_that_move_are_in_one_of_their_places_at_least(
    place: Destination, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Rows 8 to 10 are written to a new file, and removed from the one where they were."""

    def move() -> None:
        write_tracks(place.url, rows(range(8, 11), term=2), name="x_0-0.parquet")
        write_tracks(place.url, rows(range(11, 12)), name="w_2-0.parquet")

    before_the_read_of(monkeypatch, number, move)
    assert set(keys_of(place)) == set(range(20))


def test_only_what_has_changed_is_read_again(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    known = finished_rows.read_finished(place.url, [KEY], lambda table: table[KEY].to_pylist())
    Path(place.tracks, "w_0-0.parquet").unlink()
    write_tracks(place.url, rows(range(100, 102)), name="w_1-0.parquet")
    read: list[str] = []
    real = finished_rows._read_table
    monkeypatch.setattr(finished_rows, "_read_table", lambda file, *how: (read.append(file.name), real(file, *how))[1])
    assert keys_of(place, known=known) == [100, 101, *range(8, 20)]
    assert read == ["w_1-0.parquet"]


def test_a_damaged_file_is_named_and_one_that_has_gone_since_is_not(
    place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = Path(place.tracks, "w_3-0.parquet")
    damaged.write_bytes(b"PAR1 torn")
    with pytest.raises(DestinationError, match=r"w_3-0\.parquet cannot be read .*move that file"):
        keys_of(place)
    real = finished_rows._read_table

    def read(file: track_files.TrackFile, *how: Any) -> pa.Table:
        try:
            return real(file, *how)
        finally:
            if file.name == damaged.name:
                damaged.unlink()

    monkeypatch.setattr(finished_rows, "_read_table", read)
    assert keys_of(place) == [*range(12), *range(16, 20)]


def test_what_counts_comes_with_its_columns_in_one_pass(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `status` counts: of a track with a good row and a later failed one the failure alone."""
    random = np.random.default_rng(0)
    write_tracks(place.url, [make_error(key, random, track_key=key, term=5) for key in range(6)], name="a_0-0.parquet")
    before_the_read_of(monkeypatch, 1, lambda: compaction.compact(place))
    num_ok = num_error = 0
    for _, table, counts in finished_rows.read_counted(place.url, ["status"], lambda table: table):
        assert table.column_names == ["status"]
        is_ok = pc.equal(table.filter(pa.array(counts))["status"], "ok")
        num_ok += pc.sum(is_ok).as_py() or 0
        num_error += pc.sum(pc.invert(is_ok)).as_py() or 0
    assert (num_ok, num_error) == (14, 6)


def test_a_column_that_was_not_asked_for_twice_is_read_once(place: Destination) -> None:
    (_, table, counts), *_ = finished_rows.read_counted(place.url, [KEY, "run_id", "status"], lambda table: table)
    assert table.column_names == [KEY, "run_id", "status"] and counts.all()
