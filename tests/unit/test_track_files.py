"""Which files of ``tracks/`` count, whatever a killed run or a killed compaction has left there."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from tonearm.errors import DestinationError
from tonearm.library import track_files
from tonearm.library.track_files import Compactions, TrackFile


def put(place: Path, *names: str, text: str = "") -> None:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)


def commit(place: Path, identity: str, *superseded: str) -> None:
    """Leave what a compaction writes once its outputs are whole."""
    put(place, f"_checkpoint/compaction/{identity}.json", text=json.dumps({"superseded": superseded, "outputs": []}))


def names(place: Path) -> list[str]:
    return [file.name for file in track_files.finished(str(place))]


def test_nothing_counts_where_there_is_no_folder(tmp_path: Path) -> None:
    assert track_files.finished(str(tmp_path / "none")) == []
    assert track_files.read_compactions(str(tmp_path / "none")) == Compactions(frozenset(), {})


@pytest.mark.parametrize("ending", ["", "/"])
def test_files_come_sorted_by_path_with_their_sizes(tmp_path: Path, ending: str) -> None:
    for name, size in (("w_2-0", 7), ("w_10-0", 300), ("b", 0), ("w_1-1", 1)):
        put(tmp_path, f"tracks/{name}.parquet", text="x" * size)
    assert track_files.finished(f"{tmp_path}{ending}") == [
        TrackFile(f"{tmp_path}/tracks/b.parquet", 0),
        TrackFile(f"{tmp_path}/tracks/w_1-1.parquet", 1),
        TrackFile(f"{tmp_path}/tracks/w_10-0.parquet", 300),
        TrackFile(f"{tmp_path}/tracks/w_2-0.parquet", 7),
    ]


@pytest.mark.parametrize(
    "name", ["a.parquet.partial", "a.json", "parquet", "_a.parquet", ".a.parquet", "a.parquet/b.parquet"]
)
def test_only_parquet_files_in_plain_sight_count(tmp_path: Path, name: str) -> None:
    put(tmp_path, "tracks/b.parquet", f"tracks/{name}")
    assert names(tmp_path) == ["b.parquet"]


def test_a_file_whose_mark_is_pending_is_still_being_written(tmp_path: Path) -> None:
    put(tmp_path, *(f"tracks/{name}.parquet" for name in ("w_1-0", "w_1-1", "w_2-0", "w_3-0", "w_4-0")))
    put(tmp_path, "_checkpoint/0a/w_1.pending.parquet", "_checkpoint/0b/w_3.pending.parquet")
    put(tmp_path, "_checkpoint/0a/w_2.parquet")  # whole
    put(tmp_path, "_checkpoint/w_4.json", "_checkpoint/todo/w_4.parquet")  # no marks
    assert names(tmp_path) == ["w_2-0.parquet", "w_4-0.parquet"]


def test_outputs_of_a_compaction_count_from_its_commit_on_and_inputs_until_then(tmp_path: Path) -> None:
    put(tmp_path, *(f"tracks/{name}.parquet" for name in ("a", "b", "c", "compacted-7f-00000", "compacted-7f-00001")))
    put(tmp_path, "tracks/compacted-7f0-00000.parquet")  # of another step, whose id begins with the same
    put(tmp_path, "_checkpoint/compaction/7f.pending")
    assert track_files.read_compactions(str(tmp_path)) == Compactions(frozenset({"7f"}), {})
    assert names(tmp_path) == ["a.parquet", "b.parquet", "c.parquet", "compacted-7f0-00000.parquet"]
    commit(tmp_path, "7f", "a.parquet", "c.parquet")
    assert track_files.read_compactions(f"{tmp_path}/") == Compactions(
        frozenset(), {"7f": frozenset({"a.parquet", "c.parquet"})}
    )
    outputs = ["compacted-7f-00000.parquet", "compacted-7f-00001.parquet", "compacted-7f0-00000.parquet"]
    assert names(tmp_path) == ["b.parquet", *outputs]
    (tmp_path / "_checkpoint/compaction/7f.pending").unlink()  # it goes before the commit does
    assert names(tmp_path) == ["b.parquet", *outputs]


def test_each_of_several_compactions_is_at_its_own_point(tmp_path: Path) -> None:
    put(tmp_path, *(f"_checkpoint/compaction/{name}.pending" for name in ("aa", "bb")), "_checkpoint/compaction/notes")
    commit(tmp_path, "bb", "2.parquet")
    commit(tmp_path, "cc", "3.parquet", "4.parquet")
    assert track_files.read_compactions(str(tmp_path)) == Compactions(
        frozenset({"aa"}),
        {"bb": frozenset({"2.parquet"}), "cc": frozenset({"3.parquet", "4.parquet"})},
    )
    put(tmp_path, *(f"tracks/{name}.parquet" for name in ("1", "2", "3", "4", "compacted-aa-00000")))
    assert names(tmp_path) == ["1.parquet"]


def meanwhile(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], None]) -> None:
    """Have one of ``steps`` happen after each look at the state of compaction, as another process would do it."""
    real, left = track_files.read_compactions, iter(steps)

    def looked(destination: str) -> Compactions:
        found = real(destination)
        for step in itertools.islice(left, 1):
            step()
        return found

    monkeypatch.setattr(track_files, "read_compactions", looked)


def test_a_compaction_that_commits_during_the_listing_hides_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "tracks/a.parquet", "tracks/b.parquet", "tracks/other.parquet")

    def begin() -> None:
        put(tmp_path, "_checkpoint/compaction/7f.pending", "tracks/compacted-7f-00000.parquet")

    def end() -> None:
        commit(tmp_path, "7f", "a.parquet", "b.parquet")
        (tmp_path / "tracks/a.parquet").unlink()

    meanwhile(monkeypatch, begin, end)
    assert names(tmp_path) == ["compacted-7f-00000.parquet", "other.parquet"]


def test_what_is_in_a_store_counts_by_the_same_marks() -> None:
    store, place = fsspec.filesystem("memory"), "memory://track-files/labels"
    for name in ("tracks/w_1-0", "tracks/w_2-0", "tracks/_w_3-0", "_checkpoint/0a/w_2.pending"):
        store.pipe_file(f"/track-files/labels/{name}.parquet", b"123")
    (only,) = track_files.finished(place)
    assert (only.name, only.size_bytes) == ("w_1-0.parquet", 3)


@pytest.mark.parametrize("name", ["tracks", "_checkpoint"])
def test_a_destination_that_cannot_be_listed_is_an_error_not_an_empty_one(tmp_path: Path, name: str) -> None:
    put(tmp_path, "tracks/a.parquet" if name != "tracks" else "report.html", name)
    with pytest.raises(DestinationError, match="cannot be read"):
        track_files.finished(str(tmp_path))


def test_what_was_found_is_a_value(tmp_path: Path) -> None:
    put(tmp_path, "tracks/a.parquet", "tracks/b.parquet")
    twice = [*track_files.finished(str(tmp_path)), *track_files.finished(str(tmp_path))]
    assert len(set(twice)) == 2
    state = track_files.read_compactions(str(tmp_path))
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.pending = frozenset({"7f"})  # type: ignore[misc]
