"""What today's code reads in the destinations that 0.1.0 left; see ``tests.old_destinations``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.old_destinations import HOST, KEPT, LIBRARY, NAMES, restore
from tonearm.runs.manifest import manifest
from tonearm.runs.places import KEY
from tonearm.runs.rows import finished_rows, track_rows
from tonearm.runs.rows.ranking import RANKED, Ranking
from tonearm.runs.status import read_status
from tonearm.sources.listing import list_tracks

# Tracks of the last listing, those of them that have a row, and rows in all that count as written.
NUM_LISTED = dict.fromkeys(NAMES, 9) | {"deleted": 8}
NUM_DONE = NUM_LISTED | {"killed": 4}
NUM_ROWS = dict.fromkeys(NAMES, 9) | {"killed": 4, "doubled": 11, "replaced": 10, "deleted": 10}

every = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def restored(name: str, tmp_path: Path) -> tuple[Path, Path]:
    return restore(name, tmp_path)


def counting_rows(out: Path) -> pa.Table:
    """Return the rows that count: of each key the one that the ranking gives."""
    tables = [rows for _, rows in finished_rows.scan_files(str(out), None)]
    ranking = Ranking()
    ranked = [ranking.read(rows.select([name for name in RANKED if name in rows.column_names])) for rows in tables]
    masks = ranking.masks(ranked)
    return pa.concat_tables([rows.filter(pa.array(counts)) for rows, counts in zip(tables, masks, strict=True)])


def listed_rows(out: Path) -> dict[str, dict[str, object]]:
    """Return the rows that count of the listed tracks, by URI."""
    listed = set(manifest.read_keys(str(out / "manifest")).tolist())
    rows = [row for row in counting_rows(out).to_pylist() if row[KEY] in listed]
    found = {row["uri"]: row for row in rows}
    assert len(found) == len(rows), "a URI has two rows that count"
    return found


def audio(library: Path) -> set[str]:
    return {str(path) for path in library.rglob("*") if path.is_file() and path.suffix != ".txt"}


@every
def test_the_library_is_the_one_that_was_listed(restored: tuple[Path, Path], name: str) -> None:
    out, library = restored
    keys = manifest.read_keys(str(out / "manifest")).tolist()
    assert len(keys) == NUM_LISTED[name]
    assert keys == sorted(ref.track_key for ref in list_tracks([str(library)]))
    assert {ref.uri for ref in manifest.read_tracks(str(out / "manifest"))} == audio(library)


@every
def test_each_listed_track_has_one_row_that_counts(restored: tuple[Path, Path], name: str) -> None:
    out, library = restored
    assert sum(rows.num_rows for _, rows in finished_rows.scan_files(str(out), [KEY])) == NUM_ROWS[name]
    rows = listed_rows(out)
    assert len(rows) == NUM_DONE[name]
    assert rows.keys() <= audio(library)
    failed = {uri: row["error_code"] for uri, row in rows.items() if row["status"] == "error"}
    assert failed == {str(library / "broken download.mp3"): "not_audio"}
    for uri, row in rows.items():
        if uri not in failed:
            assert row["genre"]
            assert (row["tags"] is None) == (name == "genre-only")


@every
def test_readers_scan_them(restored: tuple[Path, Path], name: str) -> None:
    out, _ = restored
    batches = track_rows.scan(
        str(out), [KEY, "status", "genre", "term"], keys=manifest.read_keys(str(out / "manifest"))
    )
    rows = {row[KEY]: row for batch in batches for row in batch.to_pylist()}
    assert Counter(row["status"] for row in rows.values()) == {"ok": NUM_DONE[name] - 1, "error": 1}
    assert all(row["term"] is None for row in rows.values()), "0.1.0 wrote no terms"


@every
def test_status_counts_what_is_listed(restored: tuple[Path, Path], name: str) -> None:
    status = read_status(str(restored[0]), is_watched=False)
    assert (status.num_listed, status.num_done) == (NUM_LISTED[name], NUM_DONE[name])
    assert status.errors_by_code == {"not_audio": 1}, "once, in the one whose failed row stands twice too"
    assert (status.state == "complete") == (name != "killed")
    assert (status.last is None) == (name == "killed")


def test_a_killed_run_left_a_lock_its_progress_and_a_file_that_does_not_count(tmp_path: Path) -> None:
    out, _ = restore("killed", tmp_path)
    marks = out / "_checkpoint"
    assert (marks / "lock.json").exists()
    assert json.loads((marks / "progress.json").read_text())["doing"] == "tagging"
    (pending,) = marks.glob("*/*.pending.parquet")
    (file,) = (out / "tracks").glob(pending.name.replace(".pending.parquet", "*.parquet"))
    assert file.name not in {found.name for found, _ in finished_rows.scan_files(str(out), [KEY])}
    # The mark holds the keys of the file, as those of another library.
    assert pq.read_table(pending)[KEY].to_pylist() == pq.read_table(file)[KEY].to_pylist()


def test_of_a_replaced_file_the_listed_version_counts_though_it_is_older(tmp_path: Path) -> None:
    out, library = restore("replaced", tmp_path)
    uri = str(library / "Techno" / "01 Song.mp3")
    versions = sorted(
        (row for row in counting_rows(out).to_pylist() if row["uri"] == uri), key=lambda row: row["run_id"]
    )
    first, second = versions
    assert second["modified"] < first["modified"]
    assert listed_rows(out)[uri][KEY] == second[KEY]


def test_what_was_deleted_or_renamed_has_rows_that_are_not_listed(tmp_path: Path) -> None:
    out, library = restore("deleted", tmp_path)
    gone = {row["uri"] for row in counting_rows(out).to_pylist()} - audio(library)
    assert gone == {str(library / "Rock" / "02 Song.opus"), str(library / "Ambient" / "03 Song.m4a")}
    assert str(library / "Ambient" / "renamed 03 Song.m4a") in listed_rows(out)


@every
def test_nothing_of_the_makers_machine_is_kept(name: str) -> None:
    kept = KEPT / name / "out"
    for path in kept.rglob("*.parquet"):
        rows = pq.read_table(path)
        if "uri" in rows.column_names:
            assert all(uri.startswith(f"{LIBRARY}/") for uri in rows["uri"].to_pylist()), path
        assert "/tmp" not in str(rows.to_pylist())
    for path in kept.rglob("*.json"):
        values = json.loads(path.read_text())
        assert values.get("host", HOST) == HOST
        assert values.get("machine", {}).get("cpu", "a processor") == "a processor"
        assert not any(place in path.read_text() for place in ("/tmp", "/home", "/work", "/Users"))
