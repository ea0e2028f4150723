"""Which files of ``tracks/`` count, whatever a killed run or a killed compaction has left there."""

from __future__ import annotations

import dataclasses
import itertools
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from pyarrow.fs import FileInfo, FileSelector

from tonearm.errors import DestinationError
from tonearm.runs import compaction
from tonearm.runs.destination import Destination
from tonearm.runs.rows import track_files
from tonearm.runs.rows.track_files import Commit, Compactions
from tonearm.storage import filesystems


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
    found = track_files.finished(f"{tmp_path}{ending}")
    assert [(file.path, file.size_bytes) for file in found] == [
        (f"{tmp_path}/tracks/b.parquet", 0),
        (f"{tmp_path}/tracks/w_1-1.parquet", 1),
        (f"{tmp_path}/tracks/w_10-0.parquet", 300),
        (f"{tmp_path}/tracks/w_2-0.parquet", 7),
    ]
    assert [file.modified_ns for file in found] == [Path(file.path).stat().st_mtime_ns for file in found]


def test_a_file_that_is_written_anew_is_another_version(tmp_path: Path) -> None:
    put(tmp_path, "tracks/a.parquet", text="one")
    (before,) = track_files.finished(str(tmp_path))
    put(tmp_path, "tracks/a.parquet", text="two")
    (after,) = track_files.finished(str(tmp_path))
    assert (before.path, before.size_bytes) == (after.path, after.size_bytes)
    assert before != after


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
        frozenset(), {"7f": Commit(frozenset({"a.parquet", "c.parquet"}), frozenset())}
    )
    outputs = ["compacted-7f-00000.parquet", "compacted-7f-00001.parquet", "compacted-7f0-00000.parquet"]
    assert names(tmp_path) == ["b.parquet", *outputs]
    for name in ("tracks/a.parquet", "tracks/c.parquet", "_checkpoint/compaction/7f.pending"):
        (tmp_path / name).unlink()  # they go before the commit does
    assert names(tmp_path) == ["b.parquet", *outputs]


def test_a_commit_that_lands_after_its_step_was_undone_says_nothing(tmp_path: Path) -> None:
    """As of a process that was suspended while it wrote it: another run has taken over, and removed what it found."""
    put(tmp_path, "tracks/a.parquet", "tracks/compacted-7f-00000.parquet", "_checkpoint/compaction/7f.pending")
    outputs = ["compacted-7f-00000.parquet", "compacted-7f-00001.parquet"]
    text = json.dumps({"superseded": ["a.parquet"], "outputs": outputs})
    (tmp_path / "_checkpoint/compaction/7f.json").write_text(text)
    assert "a.parquet" in names(tmp_path), "one output is gone"
    (tmp_path / "tracks/compacted-7f-00000.parquet").unlink()
    (tmp_path / "_checkpoint/compaction/7f.pending").unlink()
    assert names(tmp_path) == ["a.parquet"]
    compaction.recover(Destination(str(tmp_path)))
    assert names(tmp_path) == ["a.parquet"]
    assert not any((tmp_path / "_checkpoint/compaction").iterdir())


def test_a_file_whose_mark_is_renamed_counts_while_the_pending_one_is_still_there(tmp_path: Path) -> None:
    """Object stores rename by copying; and a request to write the pending mark may land after all is done."""
    put(tmp_path, "tracks/w_1-0.parquet", "_checkpoint/0a/w_1.pending.parquet", "_checkpoint/0a/w_1.parquet")
    put(tmp_path, "_checkpoint/0a.json")
    assert names(tmp_path) == ["w_1-0.parquet"]
    compaction.recover(Destination(str(tmp_path)))
    assert names(tmp_path) == ["w_1-0.parquet"]
    assert [path.name for path in (tmp_path / "_checkpoint/0a").iterdir()] == ["w_1.parquet"]


def test_each_of_several_compactions_is_at_its_own_point(tmp_path: Path) -> None:
    put(tmp_path, *(f"_checkpoint/compaction/{name}.pending" for name in ("aa", "bb")), "_checkpoint/compaction/notes")
    commit(tmp_path, "bb", "2.parquet")
    commit(tmp_path, "cc", "3.parquet", "4.parquet")
    assert track_files.read_compactions(str(tmp_path)) == Compactions(
        frozenset({"aa"}),
        {"bb": Commit(frozenset({"2.parquet"}), frozenset())},
        frozenset({"cc"}),
    )
    put(tmp_path, *(f"tracks/{name}.parquet" for name in ("1", "2", "compacted-aa-00000")))
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


def test_a_commit_that_vanishes_between_the_listing_and_its_reading_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That compaction is over: its outputs count, although its pending mark was among the names listed."""
    put(tmp_path, "tracks/compacted-7f-00000.parquet", "_checkpoint/compaction/7f.pending")
    commit(tmp_path, "7f", "a.parquet")
    real = filesystems.read_bytes

    def read(url: str) -> bytes:
        if url.endswith("7f.json"):
            for name in ("7f.pending", "7f.json"):
                (tmp_path / "_checkpoint/compaction" / name).unlink(missing_ok=True)
        return real(url)

    monkeypatch.setattr(filesystems, "read_bytes", read)
    assert track_files.read_compactions(str(tmp_path)) == Compactions(frozenset(), {})
    put(tmp_path, "_checkpoint/compaction/7f.pending")
    commit(tmp_path, "7f", "a.parquet")
    assert names(tmp_path) == ["compacted-7f-00000.parquet"]


def test_a_file_that_is_finished_during_the_listing_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows may have been removed from the file where they stood before, so leaving it out would hide them."""
    put(tmp_path, "tracks/old-0.parquet", "tracks/new-0.parquet", "_checkpoint/0a/new.pending.parquet")
    real = filesystems.arrow_filesystem

    class Store:
        """A file system on which the run renames its mark right after the first listing."""

        def __init__(self, store: Any) -> None:
            self.store = store

        def get_file_info(self, selector: FileSelector) -> list[FileInfo]:
            found: list[FileInfo] = self.store.get_file_info(selector)
            mark = tmp_path / "_checkpoint/0a/new.pending.parquet"
            if mark.exists():
                mark.rename(mark.with_name("new.parquet"))
            return found

    def opened(url: str) -> filesystems.ArrowPath:
        store, path = real(url)
        return filesystems.ArrowPath(Store(store), path)

    monkeypatch.setattr(filesystems, "arrow_filesystem", opened)
    assert names(tmp_path) == ["new-0.parquet", "old-0.parquet"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"superseded": ["../../precious.parquet"], "outputs": []}', "names '../../precious.parquet'"),
        ('{"superseded": ["/etc/precious.parquet"]}', "names '/etc/precious.parquet'"),
        ('{"superseded": ["deep/precious.parquet"]}', "names 'deep/precious.parquet'"),
        ('{"superseded": ["a.parquet", ".."]}', r"names '\.\.'"),
        ('{"superseded": [""]}', "names ''"),
        ('{"superseded": ["precious.txt"]}', "names 'precious.txt'"),
        ('{"superseded": [{"a": 1}]}', "names {'a': 1}"),
        ('{"superseded": "a.parquet"}', "expected a list"),
        ('{"superseded": null}', "expected a list"),
        ("{}", "no list of superseded files"),
        ("[]", "no list of superseded files"),
        ('{"superseded": [', "not what a compaction writes"),
        ("[" * 100_000, "not what a compaction writes"),
    ],
)
def test_a_commit_of_another_writer_is_refused_and_nothing_is_deleted(
    tmp_path: Path, content: str, reason: str
) -> None:
    place = tmp_path / "music" / "labels"
    put(place, "tracks/a.parquet", "tracks/deep/precious.parquet", "precious.parquet")
    put(tmp_path, "precious.parquet", "precious.txt")
    put(place, "_checkpoint/compaction/7f.json", text=content)
    before = sorted(tmp_path.rglob("*"))
    for step in (track_files.finished, lambda url: compaction.recover(Destination(url))):
        with pytest.raises(DestinationError, match=reason) as refused:
            step(str(place))
        assert "7f.json is not what a compaction writes" in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["tracks", "manifest", "runs", "_checkpoint", "_checkpoint/todo", "_checkpoint/7f"])
def test_a_folder_that_is_a_link_is_refused_and_nothing_is_deleted(tmp_path: Path, name: str) -> None:
    place, other = tmp_path / "labels", tmp_path / "music"
    put(place, "tracks/a.parquet" if name != "tracks" else "report.html")
    put(other, "precious.pending.parquet", "precious-0.parquet", "7f.pending", "precious.txt")
    (place / name).parent.mkdir(exist_ok=True)
    (place / name).symlink_to(other)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DestinationError, match=rf"{name} is a link, and a run deletes files"):
        compaction.recover(Destination(str(place)))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mark_without_a_name_marks_nothing(tmp_path: Path) -> None:
    put(tmp_path, "tracks/a.parquet", "tracks/precious.txt", "_checkpoint/7f/.pending.parquet")
    put(tmp_path, "tracks/prec.txt", "tracks/prec-0.parquet", "_checkpoint/7f/prec.pending.parquet")
    put(tmp_path, "_checkpoint/7f.json", text="{}")
    assert names(tmp_path) == ["a.parquet"]
    compaction.recover(Destination(str(tmp_path)))
    assert sorted(path.name for path in (tmp_path / "tracks").iterdir()) == ["a.parquet", "prec.txt", "precious.txt"]


def test_what_is_in_a_store_counts_by_the_same_marks() -> None:
    store, place = fsspec.filesystem("memory"), "memory://track-files/labels"
    for name in ("tracks/w_1-0", "tracks/w_2-0", "tracks/_w_3-0", "_checkpoint/0a/w_2.pending"):
        store.pipe_file(f"/track-files/labels/{name}.parquet", b"123")
    (only,) = track_files.finished(place)
    assert (only.name, only.size_bytes) == ("w_1-0.parquet", 3)


@pytest.mark.parametrize("name", ["tracks", "_checkpoint"])
def test_a_destination_that_cannot_be_listed_is_an_error_not_an_empty_one(tmp_path: Path, name: str) -> None:
    put(tmp_path, "tracks/a.parquet" if name != "tracks" else "report.html", name)
    with pytest.raises(DestinationError, match="a file is where a folder should be"):
        track_files.finished(str(tmp_path))


def test_what_was_found_is_a_value(tmp_path: Path) -> None:
    put(tmp_path, "tracks/a.parquet", "tracks/b.parquet")
    twice = [*track_files.finished(str(tmp_path)), *track_files.finished(str(tmp_path))]
    assert len(set(twice)) == 2
    state = track_files.read_compactions(str(tmp_path))
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.pending = frozenset({"7f"})  # type: ignore[misc]


@pytest.mark.filterwarnings("ignore")
def test_a_folder_that_comes_into_being_while_one_looks_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``tracks/`` of a bucket does beside a reader: pyarrow takes it for a file between its two looks."""
    place = f"memory://{uuid.uuid4().hex}/out"
    filesystems.write_text(f"{place}/tracks/a.parquet", "")
    store = filesystems.locate(place).store
    real, looks = store.isdir, itertools.count()
    monkeypatch.setattr(store, "isdir", lambda path: real(path) and next(looks) > 0)
    assert [file.name for file in track_files.finished(place)] == ["a.parquet"]
    store.rm(store._strip_protocol(place), recursive=True)


def test_errors_of_tonearm_are_not_wrapped_again() -> None:
    """Of gs:// and az:// any error counts as the store's."""
    for kind in (filesystems.reading, filesystems.writing):
        with pytest.raises(DestinationError, match=r"^delete that file$"), kind("memory://bucket/out"):
            raise DestinationError("delete that file")
