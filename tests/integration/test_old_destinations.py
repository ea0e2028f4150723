"""Destinations that 0.1.0 left, resumed, mended and extended by the same commands of today.

See ``tests.old_destinations``: each is put beside its library, as if 0.1.0 had been run there.
"""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.old_destinations import NAMES, restore
from tests.one_process import tonearm
from tonearm.demo import genre_model_path
from tonearm.runs.manifest import manifest

pytestmark = pytest.mark.slow

GENRE_COLUMNS = ("genre", "genre_score", "genre_scores", "genre_embedding", "genre_model")
READ_COLUMNS = (
    *("uri", "etag", "size_bytes", "modified", "status", "error_code", "error_message", "duration_s"),
    *("sample_rate", "channels", "codec", "title", "artist", "album"),
)


def tag(out: Path, library: Path, *models: str, is_done: bool = False) -> subprocess.CompletedProcess[str]:
    """Run 0.1.0's command again, which must end well, and with ``is_done`` have nothing to do.

    Args:
        models: flags; both demo models by default.
    """
    models = models or ("--demo-models",)
    run = tonearm("tag", library, "--out", out, *models, "--max-error-rate", "0.2")
    assert run.returncode == 0, run.stderr
    assert not is_done or "nothing to do" in run.stdout, run.stdout
    return run


def rows_of(out: Path) -> dict[int, dict[str, object]]:
    """Return the rows of all files, by key, each of which must be there once."""
    tables = [pq.read_table(path) for path in sorted((out / "tracks").glob("*.parquet"))]
    rows = pa.concat_tables(tables, promote_options="default").to_pylist()
    found = {row["track_key"]: row for row in rows}
    assert len(found) == len(rows), "a key has two rows"
    return found


def by_path(rows: dict[int, dict[str, object]], library: Path) -> dict[str, dict[str, object]]:
    return {str(Path(str(row["uri"])).relative_to(library)): row for row in rows.values()}


def listed(out: Path) -> list[int]:
    return sorted(manifest.read_keys(str(out / "manifest")).tolist())


@pytest.mark.parametrize("name", ["finished", "compacted", "replaced", "deleted"])
def test_a_finished_old_destination_has_nothing_to_do(name: str, tmp_path: Path) -> None:
    """Today's command finds every row of 0.1.0's finished and compacted destinations, and leaves them as they are."""
    out, library = restore(name, tmp_path)
    before = rows_of(out)
    tag(out, library, is_done=True)
    assert rows_of(out) == before


def test_a_killed_run_is_resumed_to_the_end(tmp_path: Path) -> None:
    """0.1.0 was killed between a file and its mark: today's command tags the rest, as 0.1.0 would have done."""
    out, library = restore("killed", tmp_path / "killed")
    finished = [
        path for path in (out / "_checkpoint").glob("*/*.parquet") if not path.name.endswith(".pending.parquet")
    ]
    kept = {key for path in finished for key in pq.read_table(path)["track_key"].to_pylist()}
    before = {row["track_key"]: row for row in pq.read_table(out / "tracks").to_pylist() if row["track_key"] in kept}
    run = tag(out, library)
    assert f"{len(kept)} of them done before" in run.stderr
    rows = rows_of(out)
    assert sorted(rows) == listed(out)
    for key, row in before.items():
        assert {name: rows[key][name] for name in row} == row
    assert not list((out / "_checkpoint").glob("*/*.pending.parquet"))
    assert not (out / "_checkpoint" / "progress.json").exists()

    whole, place = restore("finished", tmp_path / "finished")
    expected = by_path(rows_of(whole), place)
    for path, row in by_path(rows, library).items():
        assert (row["status"], row["genre"]) == (expected[path]["status"], expected[path]["genre"]), path
        assert row["genre_score"] == pytest.approx(expected[path]["genre_score"], abs=1e-4), path
        assert row["genre_embedding"] == pytest.approx(expected[path]["genre_embedding"], abs=1e-3), path
    tag(out, library, is_done=True)


def test_doubled_rows_are_mended(tmp_path: Path) -> None:
    """A file of rows stands under two names: the next run leaves each key once, and the one after has nothing to do."""
    out, library = restore("doubled", tmp_path)
    before = {row["track_key"]: row for row in pq.read_table(out / "tracks").to_pylist()}
    tag(out, library)
    rows = rows_of(out)
    assert sorted(rows) == listed(out)
    for key, row in before.items():
        assert {name: rows[key][name] for name in row} == row
    tag(out, library, is_done=True)


def test_a_destination_without_tags_is_extended_by_them(tmp_path: Path) -> None:
    """Each track that has its genre from 0.1.0 gets one row with the tags too; its genre stays bit for bit."""
    out, library = restore("genre-only", tmp_path / "genre-only")
    before = rows_of(out)
    tag(out, library)
    rows = rows_of(out)
    assert sorted(rows) == sorted(before) == listed(out)
    whole, place = restore("finished", tmp_path / "finished")
    expected = by_path(rows_of(whole), place)
    for path, row in by_path(rows, library).items():
        old = before[int(str(row["track_key"]))]
        for name in (*READ_COLUMNS, *GENRE_COLUMNS):
            assert row[name] == old[name], f"{name} of {path}"
        if row["status"] == "ok":
            assert row["run_id"] != old["run_id"]
            assert row["tag_model"] == expected[path]["tag_model"]
            tags, wanted = (
                {tag["label"]: tag["score"] for tag in each["tags"]}  # type: ignore[attr-defined]
                for each in (row, expected[path])
            )
            assert tags == pytest.approx(wanted, abs=1e-4), path
    tag(out, library, is_done=True)


def test_a_destination_without_tags_goes_on_without_them(tmp_path: Path) -> None:
    """0.1.0's own command, one head off, finds everything done."""
    out, library = restore("genre-only", tmp_path)
    tag(out, library, "--genre-model", genre_model_path(), "--tag-model", "none", is_done=True)


@pytest.mark.parametrize("name", NAMES)
def test_an_export_has_one_row_for_each_listed_track(name: str, tmp_path: Path) -> None:
    """Doubled rows are written once, files that are gone and versions that were replaced not at all."""
    out, library = restore(name, tmp_path)
    run = tonearm("export", out, tmp_path / "tracks.csv")
    assert run.returncode == 0, run.stderr
    with (tmp_path / "tracks.csv").open(newline="") as file:
        found = sorted((row["uri"], row["modified"][:10]) for row in csv.DictReader(file))
    expected = {str(path) for path in library.rglob("*") if path.is_file() and path.suffix != ".txt"}
    if name == "killed":
        assert len(found) == len({uri for uri, _ in found}) == 4
        assert {uri for uri, _ in found} < expected
        return
    assert [uri for uri, _ in found] == sorted(expected)
    day = "2025-11-19" if name == "replaced" else "2025-11-20"
    assert dict(found)[str(library / "Techno" / "01 Song.mp3")] == day
