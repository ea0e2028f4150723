"""Reading a destination's rows: which ones, streaming, while others write, and what is said when there is nothing."""

from __future__ import annotations

import datetime
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tables import damage, make_error, make_row, make_tracks, write_listing, write_tracks
from tonearm.errors import DestinationError, SourceError
from tonearm.runs import compaction
from tonearm.runs.destination import Destination
from tonearm.runs.rows import finished_rows, track_files, track_rows
from tonearm.runs.rows.schema import TRACKS
from tonearm.storage import filesystems


def day(number: int) -> datetime.datetime:
    return datetime.datetime(2025, 1, number, tzinfo=datetime.UTC)


def row(key: int, **changes: object) -> dict[str, object]:
    return make_row(key, np.random.default_rng(abs(key)), **{"track_key": key, **changes})


def test_scan_gives_every_row_once_in_batches_no_larger_than_asked(tmp_path: Path) -> None:
    make_tracks(tmp_path, 2500)
    batches = list(track_rows.scan(str(tmp_path), ["track_key", "uri"], batch_rows=400))
    assert max(batch.num_rows for batch in batches) <= 400
    assert all(batch.schema.names == ["track_key", "uri"] for batch in batches)
    expected = pq.read_table(tmp_path / "tracks")
    assert pa.Table.from_batches(batches)["track_key"].to_pylist() == expected["track_key"].to_pylist()
    assert track_rows.listed_rows(str(tmp_path)).keys.tolist() == sorted(expected["track_key"].to_pylist())


def test_scan_filters_by_columns_that_are_not_read(tmp_path: Path) -> None:
    make_tracks(tmp_path, 300, error_share=0.3)
    (failed,) = track_rows.scan(str(tmp_path), ["error_code"], ds.field("status") == "error")
    assert failed.num_rows == sum(
        status == "error" for status in pq.read_table(tmp_path / "tracks")["status"].to_pylist()
    )
    assert failed.column("error_code").null_count == 0


def test_a_column_that_an_older_file_lacks_is_null(tmp_path: Path) -> None:
    write_tracks(tmp_path, [row(1)])
    path = tmp_path / "tracks" / "part-0.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["album"]), path)
    (batch,) = track_rows.scan(str(tmp_path), ["album", "title"])
    assert batch["album"].to_pylist() == [None]


def shown(place: Path, **how: Any) -> list[int]:
    """Return the keys that a scan shows, in their order."""
    return [
        key for batch in track_rows.scan(str(place), ["track_key"], **how) for key in batch["track_key"].to_pylist()
    ]


def values(place: Path, column: str, **how: Any) -> dict[int, Any]:
    """Return a column of the rows that a scan shows, by key; no key may come twice."""
    found = [row for batch in track_rows.scan(str(place), ["track_key", column], **how) for row in batch.to_pylist()]
    by_key = {row["track_key"]: row[column] for row in found}
    assert len(by_key) == len(found)
    return by_key


def test_a_file_that_an_older_one_replaced_is_not_shown(tmp_path: Path) -> None:
    """A restored backup, `rsync -t`, `mv`: the time of the file that is there now is before that of the one gone."""
    gone, there = row(1, uri="/m/a.mp3", modified=day(9)), row(2, uri="/m/a.mp3", modified=day(1))
    write_tracks(tmp_path, [gone], name="a.parquet")
    write_tracks(tmp_path, [there], name="b.parquet")
    write_listing(tmp_path, [there])
    rows = track_rows.listed_rows(str(tmp_path))
    assert rows.keys.tolist() == shown(tmp_path) == [2]
    assert (rows.num_unlisted, rows.num_outranked) == (1, 0)


def test_deleted_and_renamed_files_are_out_of_sight_unless_asked_for(tmp_path: Path) -> None:
    rows = [row(1, uri="/m/deleted.mp3"), row(2, uri="/m/before.mp3"), row(3, uri="/m/stays.mp3")]
    after = row(4, uri="/m/after.mp3")
    write_tracks(tmp_path, [*rows, after])
    write_listing(tmp_path, [rows[2], after])
    assert shown(tmp_path) == [3, 4]
    assert shown(tmp_path, unlisted=True) == [1, 2, 3, 4]
    everything = track_rows.listed_rows(str(tmp_path), unlisted=True)
    assert (everything.keys.tolist(), everything.num_unlisted) == ([1, 2, 3, 4], 0)


def test_of_rows_of_one_key_the_highest_term_counts_then_the_later_run_then_the_last(tmp_path: Path) -> None:
    first = [row(1, title="low", term=2), row(2, title="later", run_id="20250301T000000-x"), row(3, title="one")]
    second = [row(1, title="lower", term=1), row(2, title="before", run_id="20250201T000000-x"), row(3, title="two")]
    third = [row(1, title="high", term=3, run_id="20240101T000000-x")]
    for name, rows in zip("abc", (first, second, third), strict=True):
        write_tracks(tmp_path, rows, name=f"{name}.parquet")
    assert values(tmp_path, "title") == {1: "high", 2: "later", 3: "two"}
    assert track_rows.listed_rows(str(tmp_path)).num_outranked == 4


def test_a_copied_file_shows_no_track_twice(tmp_path: Path) -> None:
    make_tracks(tmp_path, 50)
    (path,) = (tmp_path / "tracks").iterdir()
    shutil.copy(path, path.with_name("copy.parquet"))
    assert len(shown(tmp_path)) == len(set(shown(tmp_path))) == 50
    assert track_rows.listed_rows(str(tmp_path)).num_outranked == 50


def test_which_row_counts_does_not_depend_on_the_filter(tmp_path: Path) -> None:
    """A track that failed when it was tagged again is not shown with what it had before, whatever is asked for."""
    write_tracks(tmp_path, [row(1, term=1), row(2, term=1, title=None)], name="a.parquet")
    write_tracks(tmp_path, [make_error(1, np.random.default_rng(1), track_key=1, term=2)], name="b.parquet")
    assert shown(tmp_path, filter=ds.field("status") == "ok") == [2]
    assert shown(tmp_path, filter=ds.field("title") != "x") == [], "null is not true"
    assert shown(tmp_path, filter=ds.field("status") == "error") == [1]


def test_without_a_finished_manifest_every_key_is_shown_once(tmp_path: Path) -> None:
    write_tracks(tmp_path, [row(1), row(2), row(2)])
    (tmp_path / "manifest").mkdir()
    pq.write_table(pa.table({"track_key": [1]}), tmp_path / "manifest" / "part-00000-0a.parquet")
    assert sorted(shown(tmp_path)) == [1, 2]


def test_a_damaged_manifest_is_an_error_and_not_a_missing_one(tmp_path: Path) -> None:
    write_tracks(tmp_path, [row(1), row(2)])
    write_listing(tmp_path, [row(1)])
    next((tmp_path / "manifest").glob("part-00000-*")).unlink()
    with pytest.raises(SourceError, match=r"lacks part-00000-.*run tonearm tag"):
        shown(tmp_path)
    (tmp_path / "manifest" / "_manifest.json").write_text("{")
    with pytest.raises(DestinationError, match=r"is not what tonearm writes.*run tonearm tag"):
        shown(tmp_path)


def test_a_manifest_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tracks(tmp_path, [row(1), row(2)])
    write_listing(tmp_path, [row(1)])
    real = filesystems.read_bytes

    def read(url: str, **how: Any) -> bytes:
        if "part-" in url and real is not filesystems.read_bytes:
            monkeypatch.setattr(filesystems, "read_bytes", real)
            write_listing(tmp_path, [row(2)])
        return real(url, **how)

    monkeypatch.setattr(filesystems, "read_bytes", read)
    assert shown(tmp_path) == [2]


def test_keys_and_what_was_decided_before_narrow_a_scan(tmp_path: Path) -> None:
    write_tracks(tmp_path, [row(number) for number in range(20)])
    rows = track_rows.listed_rows(str(tmp_path))
    write_tracks(tmp_path, [row(number, title="new", term=9) for number in range(15, 25)], name="b.parquet")
    assert shown(tmp_path, keys=np.array([3, 7, 99])) == [3, 7]
    assert shown(tmp_path, rows=rows) == list(range(20)), "the tracks that there were then"
    assert shown(tmp_path, rows=rows, keys=np.array([3, 7, 22])) == [3, 7]
    assert shown(tmp_path, keys=np.empty(0, np.int64)) == []


def interfere(monkeypatch: pytest.MonkeyPatch, at: int, step: Callable[[], None]) -> list[int]:
    """Have ``step`` happen before the reader's ``at``-th look or read; the list that is returned counts those."""
    counted = [0]

    def meanwhile(module: Any, name: str) -> None:
        real = getattr(module, name)

        def called(*args: Any, **how: Any) -> Any:
            counted[0] += 1
            if counted[0] == at:
                step()
            return real(*args, **how)

        monkeypatch.setattr(module, name, called)

    meanwhile(track_files, "finished")
    meanwhile(finished_rows, "_read_table")
    meanwhile(track_rows, "_open_dataset")
    return counted


@pytest.mark.parametrize("at", range(1, 12))
def test_a_compaction_between_any_two_steps_of_a_scan_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    for number in range(4):
        write_tracks(tmp_path, [row(10 * number + place) for place in range(5)], name=f"w_{number}-0.parquet")
    expected = values(tmp_path, "title")
    place = Destination.of(str(tmp_path))
    with monkeypatch.context() as patched:
        interfere(patched, at, lambda: once(patched, lambda: compaction.compact(place)))
        assert values(tmp_path, "title", batch_rows=2) == expected


def once(patched: pytest.MonkeyPatch, step: Callable[[], object]) -> None:
    """Do what another process does, with the real functions."""
    patched.undo()
    step()


@pytest.mark.parametrize("after", range(1, 12))
def test_a_compaction_between_any_two_batches_changes_nothing(tmp_path: Path, after: int) -> None:
    for number in range(4):
        write_tracks(tmp_path, [row(10 * number + place) for place in range(5)], name=f"w_{number}-0.parquet")
    expected = values(tmp_path, "title")
    found: list[dict[str, Any]] = []
    for number, batch in enumerate(track_rows.scan(str(tmp_path), ["track_key", "title"], batch_rows=2), 1):
        found += batch.to_pylist()
        if number == after:
            compaction.compact(Destination.of(str(tmp_path)))
    assert sorted((entry["track_key"], entry["title"]) for entry in found) == sorted(expected.items())


def test_rows_that_move_to_another_file_while_the_folder_is_read_are_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run writes row 2 anew and removes the old one from its file, after the look and before the read."""
    write_tracks(tmp_path, [row(1, term=1), row(2, term=1)], name="a.parquet")

    def move() -> None:
        write_tracks(tmp_path, [row(2, term=2, title="new")], name="b.parquet")
        write_tracks(tmp_path, [row(1, term=1)], name="a.parquet")

    interfere(monkeypatch, 2, move)
    assert values(tmp_path, "title")[2] == "new"


def test_the_end_of_a_file_that_moves_elsewhere_between_look_and_read_is_not_missed(tmp_path: Path) -> None:
    write_tracks(tmp_path, [row(1, term=1), row(2, term=1), row(3, term=1)], name="b.parquet")
    rows = track_rows.listed_rows(str(tmp_path))
    write_tracks(tmp_path, [row(3, term=2, title="new")], name="a.parquet")
    write_tracks(tmp_path, [row(1, term=1), row(2, term=1)], name="b.parquet")
    found = values(tmp_path, "title", rows=rows)
    assert sorted(found) == [1, 2, 3] and found[3] == "new"


def test_a_file_that_a_store_shows_as_the_same_and_is_another_is_noticed_by_its_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Object stores tell Arrow no time, and two files may have one size."""
    real = track_files.finished

    def finished(url: str) -> list[track_files.TrackFile]:
        return [track_files.TrackFile(file.path, 0) for file in real(url)]

    monkeypatch.setattr(track_files, "finished", finished)
    write_tracks(tmp_path, [row(1), row(2)], name="a.parquet")
    rows = track_rows.listed_rows(str(tmp_path))
    write_tracks(tmp_path, [row(2, title="now"), row(1, title="now")], name="a.parquet")
    assert values(tmp_path, "title", rows=rows) == {1: "now", 2: "now"}


def test_a_file_that_vanishes_during_a_scan_is_handled_without_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it is all that there was: a prune has removed the last rows of a listed track."""
    write_tracks(tmp_path, [row(1)], name="a.parquet")
    write_tracks(tmp_path, [row(2)], name="b.parquet")
    batches = track_rows.scan(str(tmp_path), ["track_key"])
    assert next(batches)["track_key"].to_pylist() == [1]
    rows = track_rows.listed_rows(str(tmp_path))
    shutil.rmtree(tmp_path / "tracks")
    assert list(track_rows.scan(str(tmp_path), ["track_key"], rows=rows)) == []


def test_a_folder_that_keeps_changing_is_one_line_of_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tracks(tmp_path, [row(1)])
    monkeypatch.setattr(finished_rows, "MAX_LOOKS", 5)

    def gone(*how: Any) -> None:
        raise FileNotFoundError("gone")

    monkeypatch.setattr(finished_rows, "_read_table", gone)
    with pytest.raises(DestinationError, match=r"tracks/ changed 5 times while it was read; run the command again"):
        shown(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(finished_rows, "MAX_LOOKS", 5)
    monkeypatch.setattr(track_rows, "_open_dataset", gone)
    with pytest.raises(DestinationError, match=r"tracks/ changed 5 times while it was read; run the command again"):
        shown(tmp_path)


KEYS = st.integers(-4, 4)
WRITTEN = st.tuples(KEYS, st.none() | st.integers(1, 3), st.sampled_from(["r1", "r2", None]), st.booleans())
CHANGES = st.sampled_from(["nothing", "compact", "move", "remove outranked", "prune", "add"])


NARROW = pa.schema([TRACKS.field(name) for name in ("track_key", "uri", "term", "run_id", "title", "status")])


class Library:
    """A destination of files with few columns, and what should be seen of it."""

    def __init__(self, folder: Path, files: list[list[tuple[int, int | None, str | None, bool]]]) -> None:
        self.folder, self.number = folder, 0
        for rows in files:
            self.write([self.row(*values) for values in rows])

    def row(self, key: int, term: int | None, run: str | None, is_ok: bool) -> dict[str, Any]:
        self.number += 1
        title, status = f"{key} {term} {run} {self.number}", "ok" if is_ok else "error"
        return {"track_key": key, "uri": f"/m/{key}.mp3", "term": term, "run_id": run, "title": title, "status": status}

    def write(self, rows: list[dict[str, Any]]) -> None:
        self.number += 1
        (self.folder / "tracks").mkdir(exist_ok=True)
        self.replace(self.folder / "tracks" / f"w_{self.number:04d}-0.parquet", rows)

    def files(self) -> list[tuple[Path, list[dict[str, Any]]]]:
        paths = sorted((self.folder / "tracks").glob("*.parquet"))
        return [(path, pq.read_table(path).to_pylist()) for path in paths]

    def best(self) -> dict[int, dict[str, Any]]:
        """Return the row that counts of each key, found the slow way."""
        rows = [(row.get("term") or 0, row["run_id"] or "", place) for place, row in enumerate(self.rows())]
        found: dict[int, tuple[Any, dict[str, Any]]] = {}
        for rank, row in zip(rows, self.rows(), strict=True):
            if row["track_key"] not in found or rank > found[row["track_key"]][0]:
                found[row["track_key"]] = (rank, row)
        return {key: row for key, (_, row) in found.items()}

    def rows(self) -> list[dict[str, Any]]:
        return [row for _, rows in self.files() for row in rows]

    def replace(self, path: Path, rows: list[dict[str, Any]]) -> None:
        """Write the file anew in one step, or remove it."""
        if rows:
            partial = path.with_suffix(".partial")
            pq.write_table(pa.Table.from_pylist(rows, schema=NARROW), partial)
            partial.replace(path)
        else:
            path.unlink()

    def change(self, what: str, pick: int) -> None:
        """Do what another process may do while a reader reads."""
        files = self.files()
        if what == "compact":
            compaction.compact(Destination.of(str(self.folder)))
        elif what == "add":
            self.write([self.row(pick % 9 - 4, 4, "r3", True)])
        elif what == "move":  # tagged again: the row stands elsewhere, then the old one is removed
            path, rows = files[pick % len(files)]
            again = [{**row, "term": 4, "run_id": "r3", "title": f"{row['title']} again"} for row in rows[:1]]
            self.write(again)
            moved = again[0]["track_key"] if again else None
            self.replace(path, [row for row in rows if row["track_key"] != moved])
        elif what == "remove outranked":
            best = {row["title"] for row in self.best().values()}
            for path, rows in files:
                left = [row for row in rows if row["title"] in best]
                if len(left) < len(rows):
                    self.replace(path, left)
        elif what == "prune":  # rows of what is not listed
            for path, rows in files:
                left = [row for row in rows if row["track_key"] >= 0]
                if len(left) < len(rows):
                    self.replace(path, left)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    files=st.lists(st.lists(WRITTEN, min_size=1, max_size=6), min_size=1, max_size=5),
    has_old=st.booleans(),
    changes=st.lists(st.tuples(st.integers(1, 14), CHANGES, st.integers(0, 99)), max_size=3),
    batch_rows=st.integers(1, 5),
    columns=st.sampled_from([["title"], ["track_key", "title"], ["title", "status", "genre_scores"]]),
    only_ok=st.booleans(),
    is_listed=st.booleans(),
)
def test_each_listed_track_has_one_row_whatever_goes_on(
    files: list[list[tuple[int, int | None, str | None, bool]]],
    has_old: bool,
    changes: list[tuple[int, str, int]],
    batch_rows: int,
    columns: list[str],
    only_ok: bool,
    is_listed: bool,
) -> None:
    """Files with doubles and unlisted keys, and other processes at work between any two of the reader's steps.

    A track is shown with the row that counts, at one of the moments of the scan.
    """
    with tempfile.TemporaryDirectory(prefix="tonearm-test-") as name, pytest.MonkeyPatch.context() as patched:
        library = Library(Path(name), files)
        if has_old:  # of 0.1.0: without a term
            path, _ = library.files()[0]
            pq.write_table(pq.read_table(path).drop_columns(["term"]), path)
        listed = [{"track_key": key, "uri": f"/m/{key}.mp3"} for key in range(0, 5)]
        if is_listed:
            write_listing(name, listed)
        moments = [library.best()]
        steps, now, is_busy = {}, [0], [False]
        for at, what, pick in changes:
            steps.setdefault(at, (what, pick))

        def tick() -> None:
            if is_busy[0]:
                return
            now[0] += 1
            if now[0] in steps:
                is_busy[0] = True
                library.change(*steps[now[0]])
                moments.append(library.best())
                is_busy[0] = False

        patched.setattr(finished_rows, "READERS", 1)  # in one order
        for module, function in (
            (track_files, "finished"),
            (finished_rows, "_read_table"),
            (track_rows, "_open_dataset"),
        ):

            def called(*args: Any, real: Any = getattr(module, function), **how: Any) -> Any:
                tick()
                return real(*args, **how)

            patched.setattr(module, function, called)
        found: list[str] = []
        chosen = ds.field("status") == "ok" if only_ok else None
        try:
            for batch in track_rows.scan(name, columns, chosen, batch_rows=batch_rows):
                assert batch.schema.names == columns and batch.num_rows <= batch_rows
                found += batch["title"].to_pylist()
                tick()
        except DestinationError as error:  # a prune that came first has removed everything
            assert "no tracks here" in str(error) and not all(moments) and not found
            return
        by_key = {int(title.split()[0]): title for title in found}
        assert len(by_key) == len(found), "a track came twice"
        for key in {key for moment in moments for key in moment}:
            rows = [moment.get(key) for moment in moments]
            is_shown = not is_listed or key >= 0
            possible = {
                row["title"] if is_shown and row is not None and (row["status"] == "ok" or not only_ok) else None
                for row in rows
            }
            assert by_key.get(key) in possible, (key, by_key, possible)


def test_a_file_with_a_pending_mark_is_left_out(tmp_path: Path) -> None:
    write_tracks(tmp_path, [row(1)], name="abc_000000.parquet")
    write_tracks(tmp_path, [row(2)], name="xyz_000000.parquet")
    marks = tmp_path / "_checkpoint" / "0123456789abcdef"
    marks.mkdir(parents=True)
    (marks / "abc_000000.parquet").touch()
    (marks / "xyz.pending.parquet").touch()
    assert shown(tmp_path) == [1]


@pytest.mark.parametrize("layout", ["missing", "empty", "other"])
def test_a_destination_without_tracks_says_what_to_do(tmp_path: Path, layout: str) -> None:
    if layout != "missing":
        (tmp_path / "out" / "tracks").mkdir(parents=True)
    if layout == "other":
        (tmp_path / "out" / "tracks" / "notes.txt").write_text("no table")
    with pytest.raises(
        DestinationError, match=r"no tracks here \(expected .*tracks/\*\.parquet\).*tonearm tag SOURCE --out"
    ):
        shown(tmp_path / "out")


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    make_tracks(tmp_path, 10)
    (tmp_path / "tracks" / "torn.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(DestinationError, match=r"torn\.parquet.*move that file"):
        list(track_rows.scan(str(tmp_path), ["uri"]))


@pytest.mark.parametrize("column", ["status", "windows.list.element.start_s"])
def test_a_file_with_a_damaged_column_is_named(tmp_path: Path, column: str) -> None:
    make_tracks(tmp_path, 10)
    write_tracks(tmp_path, [row(1)], name="torn.parquet")
    damage(tmp_path / "tracks" / "torn.parquet", column)
    with pytest.raises(DestinationError, match=r"torn\.parquet cannot be read .*move that file"):
        list(track_rows.scan(str(tmp_path), ["uri", "status", "windows"], batch_rows=3))


@pytest.mark.parametrize("key", [pa.array(["one"]), pa.array([None], pa.int64()), None])
def test_a_table_without_keys_is_named(tmp_path: Path, key: pa.Array | None) -> None:
    make_tracks(tmp_path, 10)
    other = pa.table({"uri": ["/m/a.mp3"]} if key is None else {"track_key": key})
    pq.write_table(other, tmp_path / "tracks" / "other.parquet")
    with pytest.raises(DestinationError, match=r"other\.parquet cannot be read .*move that file"):
        shown(tmp_path)


def test_an_empty_table_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "tracks").mkdir()
    pq.write_table(TRACKS.empty_table(), tmp_path / "tracks" / "none.parquet")
    assert list(track_rows.scan(str(tmp_path), ["uri"])) == []
    assert track_rows.listed_rows(str(tmp_path)).keys.tolist() == []


def test_failed_rows_have_nulls_where_they_have_nothing(tmp_path: Path) -> None:
    write_tracks(tmp_path, [make_error(1, np.random.default_rng(0))])
    (batch,) = track_rows.scan(str(tmp_path), ["genre", "tags", "duration_s"])
    assert batch.to_pylist() == [{"genre": None, "tags": None, "duration_s": None}]
