"""Small files into large ones: the same rows, sorted, whatever moment the process is killed at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tables import make_tracks
from tonearm.errors import DestinationError
from tonearm.library import compaction, runs, stores, table, track_files
from tonearm.library.runs import Destination
from tonearm.library.schema import TRACKS

NUM_ROWS, ROWS_A_FILE = 600, 20
FACTS = {"models": "small"}


class Killed(BaseException):
    """Stands for SIGKILL: nothing but a ``finally`` runs after it, and compaction has none that matters."""


@pytest.fixture
def destination(tmp_path: Path) -> Destination:
    """A destination as a run leaves it: many small files, a mark for each."""
    make_tracks(tmp_path, NUM_ROWS)
    whole = pq.read_table(tmp_path / "tracks")
    next((tmp_path / "tracks").glob("*.parquet")).unlink()
    place = Destination.of(str(tmp_path))
    own = runs.claim(place, FACTS)
    marks = tmp_path / "_checkpoint" / own
    marks.mkdir()
    for number in range(0, NUM_ROWS, ROWS_A_FILE):
        part = whole.slice(number, ROWS_A_FILE)
        pq.write_table(part, tmp_path / "tracks" / f"w-r_{number:06d}-0.parquet")
        pq.write_table(part.select(["track_key"]), marks / f"w-r_{number:06d}.parquet")
    return place


def rows(destination: Destination) -> pa.Table:
    """Return what every reader of tonearm sees."""
    batches = list(table.scan(destination.url, TRACKS.names))
    return pa.Table.from_batches(batches).sort_by("track_key")


def test_the_same_rows_in_files_that_do_not_overlap(destination: Destination) -> None:
    before = rows(destination)
    size = sum(file.size_bytes for file in track_files.finished(destination.url))
    done = compaction.compact(destination, target_bytes=size // 3)
    assert (done.num_before, done.num_after, done.num_rows) == (NUM_ROWS // ROWS_A_FILE, 3, NUM_ROWS)
    assert rows(destination).equals(before)
    last = -(2**63)
    for file in track_files.finished(destination.url):
        keys = pq.read_table(file.path, columns=["track_key"])["track_key"].to_numpy()
        assert (np.diff(keys) > 0).all() and keys[0] > last
        last = keys[-1]
        metadata = pq.read_metadata(file.path)
        assert metadata.row_group(0).sorting_columns[0].column_index == 0
        statistics = metadata.row_group(0).column(0).statistics
        assert (statistics.min, statistics.max) == (keys[0], keys[-1])
        assert pq.read_schema(file.path).metadata[b"tonearm.schema"] == b"tracks"
    # A run with other settings is refused as before, and one with the same finds every track done.
    with pytest.raises(DestinationError, match="other settings"):
        runs.claim(destination, {"models": "large"})
    runs.claim(destination, FACTS)
    assert not list(Path(destination.url).glob("_checkpoint/compaction/*"))


def test_large_files_are_left_alone_and_a_second_time_there_is_nothing_to_do(destination: Destination) -> None:
    compaction.compact(destination)
    (only,) = track_files.finished(destination.url)
    assert compaction.compact(destination) == compaction.Compacted()
    assert [file.path for file in track_files.finished(destination.url)] == [only.path]


def test_steps_hold_no_more_than_asked() -> None:
    files = [track_files.TrackFile(f"/t/{number}.parquet", 10 * 2**20) for number in range(100)]
    groups = compaction.steps(files, target_bytes=100 * 2**20, step_bytes=300 * 2**20)
    assert [len(group) for group in groups] == [30, 30, 30, 10]
    assert compaction.steps(files[:1], target_bytes=100 * 2**20, step_bytes=300 * 2**20) == []


@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [
        (compaction, "_distribute", 0),
        (compaction, "_write_output", 0),
        (compaction, "_write_output", 2),
        (compaction, "_write_marks", 0),
        (compaction, "_complete", 0),
        (stores, "delete", 0),
        (stores, "delete", 7),
        (stores, "delete", NUM_ROWS // ROWS_A_FILE * 2),
        (stores, "delete", NUM_ROWS // ROWS_A_FILE * 2 + 1),
    ],
)
def test_killed_at_any_point_no_row_is_lost_or_doubled(
    destination: Destination, monkeypatch: pytest.MonkeyPatch, module: object, name: str, calls: int
) -> None:
    before = rows(destination)
    monkeypatch.setattr(compaction, "READERS", 1)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, _killing(getattr(module, name), after=calls))
        with pytest.raises(Killed):
            compaction.compact(destination, target_bytes=200_000)
    assert rows(destination).equals(before), "as it was left"
    compaction.recover(destination)
    assert rows(destination).equals(before), "as the next command finds it"
    names = {path.name for path in Path(destination.tracks).iterdir()}
    assert names == {file.name for file in track_files.finished(destination.url)}, "nothing of the killed step stays"
    compaction.compact(destination, target_bytes=200_000)
    assert rows(destination).equals(before)
    assert all(name.startswith("compacted-") for name in (path.name for path in Path(destination.tracks).iterdir()))


def _killing(real: Callable[..., object], *, after: int) -> Callable[..., object]:
    left = [after]

    def wrapped(*arguments: object, **named: object) -> object:
        if not left[0]:
            raise Killed
        left[0] -= 1
        return real(*arguments, **named)

    return wrapped


def test_rows_of_an_older_schema_get_todays(destination: Destination) -> None:
    path = next(Path(destination.tracks).glob("*.parquet"))
    pq.write_table(pq.read_table(path).drop_columns(["album"]), path)
    compaction.compact(destination)
    (only,) = track_files.finished(destination.url)
    assert pq.read_schema(only.path).names == TRACKS.names
    assert pq.read_metadata(only.path).num_rows == NUM_ROWS


def test_a_broken_file_is_named_and_nothing_changes(destination: Destination) -> None:
    path = next(Path(destination.tracks).glob("*.parquet"))
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(DestinationError, match=rf"{path.name} cannot be read .*tagged anew"):
        compaction.compact(destination)
    compaction.recover(destination)
    assert len(list(Path(destination.tracks).iterdir())) == NUM_ROWS // ROWS_A_FILE
