"""The files of a run's ``todo/``: tracks to tag, and whole rows to write again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tables import write_tracks
from tests.unit.runs.group_rows import BOTH, GROUPS, ok
from tonearm.distributed.tagging.run import executions
from tonearm.errors import DestinationError, Stopped
from tonearm.runs import resume
from tonearm.runs import todo as todo_files
from tonearm.runs.destination import Destination
from tonearm.runs.manifest import manifest
from tonearm.runs.rows import schema
from tonearm.sources.track_ref import TrackRef
from tonearm.storage import filesystems


@pytest.fixture
def place(tmp_path: Path) -> Destination:
    return Destination.of(str(tmp_path / "out"))


def listed_parts(folder: Path, *parts: Sequence[tuple[int, str]]) -> list[str]:
    """Write manifest parts of (key, URI); return their paths."""
    (folder / "manifest").mkdir(parents=True, exist_ok=True)
    paths = []
    for number, part in enumerate(parts):
        paths.append(str(folder / "manifest" / f"part-{number}.parquet"))
        pq.write_table(manifest.to_table([TrackRef(key, uri, 1, None, None) for key, uri in part]), paths[-1])
    return paths


def test_the_todo_is_what_is_not_done_and_nothing_of_the_run_before(place: Destination) -> None:
    parts = listed_parts(Path(place.url), [(1, "/a"), (2, "/b"), (3, "/c")], [(4, "/d"), (5, "/e")], [(6, "/f")])
    fresh = todo_files.write_todo(place, parts, np.empty(0, np.int64))
    assert [(part.url, part.num_tracks) for part in fresh] == list(zip(parts, [3, 2, 1], strict=True))
    todo = todo_files.write_todo(place, parts, np.array([2, 4, 5, 9]))
    assert [part.num_tracks for part in todo] == [2, 1]
    assert [filesystems.read_table(part.url)["uri"].to_pylist() for part in todo] == [["/a", "/c"], ["/f"]]
    todo_files.write_todo(place, parts, np.array([1, 2, 3, 4, 5]))
    folder = Path(place.join("_checkpoint", "todo"))
    assert [path.name[:10] for path in folder.iterdir()] == ["part-00002"]
    assert todo_files.write_todo(place, parts, np.arange(1, 7)) == []


def test_parts_of_a_displaced_run_are_not_taken_for_the_next_runs(place: Destination) -> None:
    write_tracks(place.url, [ok(1, tag_settings=None, tag_model=None)])
    parts = listed_parts(Path(place.url), [(1, "/a"), (2, "/b")])
    lacking = resume.read_rows(place, GROUPS).rewrites(np.array([1]), BOTH, retry_errors=False)

    def todo() -> set[str]:
        return {
            part.url
            for part in todo_files.write_todo(place, parts, np.array([1])) + todo_files.write_rewrites(place, lacking)
        }

    assert not todo() & todo()


def test_who_was_displaced_leaves_the_todo_of_its_successor(place: Destination) -> None:
    parts = listed_parts(Path(place.url), [(1, "/a"), (2, "/b")])
    (todo,) = todo_files.write_todo(place, parts, np.array([1]))

    def check() -> None:
        raise Stopped("another run has taken over")

    with pytest.raises(Stopped):
        todo_files.write_todo(place, parts, np.array([1]), check=check)
    assert Path(todo.url).exists()


def test_a_listing_that_is_gone_is_one_line(place: Destination) -> None:
    for done in (np.empty(0, np.int64), np.array([1])):
        with pytest.raises(DestinationError, match="cannot be read"):
            todo_files.write_todo(place, [place.join("manifest", "gone.parquet")], done)


def test_rows_are_carried_whole_with_the_columns_of_others(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(todo_files, "CARRIED_ROWS", 2)
    write_tracks(place.url, [ok(key, tag_settings=None, tag_model=None) for key in range(1, 4)], name="a.parquet")
    write_tracks(place.url, [ok(4, tag_settings=None, tag_model=None), ok(5)], name="b.parquet")
    path = Path(place.tracks, "b.parquet")
    pq.write_table(pq.read_table(path, partitioning=None).append_column("mine", [["x", "y"]]), path)
    found = resume.read_rows(place, GROUPS).rewrites(np.arange(1, 6), BOTH, retry_errors=False)
    parts = todo_files.write_rewrites(place, found)
    assert [(part.num_tracks, part.heads, part.again) for part in parts] == [(2, ("tags",), 0)] * 2
    rows = pa.concat_tables([filesystems.read_table(part.url) for part in parts])
    assert rows.column_names == [*schema.MANIFEST.names, "old"]
    old = {row["track_key"]: row for row in rows["old"].to_pylist()}
    assert {key: row["mine"] for key, row in old.items()} == {1: None, 2: None, 3: None, 4: "x"}
    stands = {row["track_key"]: row for row in pq.read_table(place.tracks, partitioning=None).to_pylist()}
    assert all(old[key][name] == stands[key][name] for key in old for name in schema.TRACKS.names)
    assert rows["track_key"].to_pylist() == [1, 2, 3, 4]


def add_column(path: Path, values: Sequence[object], kind: pa.DataType) -> None:
    """Do what another program does: rewrite a file with a column more."""
    pq.write_table(pq.read_table(path, partitioning=None).append_column("mine", pa.array(values, kind)), path)


def test_columns_of_others_that_do_not_go_together_are_carried_apart(place: Destination) -> None:
    none: dict[str, Any] = {"tag_settings": None, "tag_model": None}
    for number, name in enumerate(["a", "b", "c", "d"]):
        write_tracks(place.url, [ok(2 * number, **none), ok(2 * number + 1, **none)], name=f"{name}.parquet")
    add_column(Path(place.tracks, "a.parquet"), ["x", "y"], pa.string())
    add_column(Path(place.tracks, "b.parquet"), [1, 2], pa.int64())
    add_column(Path(place.tracks, "d.parquet"), [1.5, 2.5], pa.float64())
    found = resume.read_rows(place, GROUPS).rewrites(np.arange(8), BOTH, retry_errors=False)
    parts = todo_files.write_rewrites(place, found)
    carried = [[row["mine"] for row in filesystems.read_table(part.url)["old"].to_pylist()] for part in parts]
    assert carried == [["x", "y", None, None], [1.0, 2.0, 1.5, 2.5]]
    assert len(list(executions(parts, 100))) == 2, "an execution reads its parts as one table"
