"""What docs/rows.md says of reading the rows: its own blocks, run in DuckDB, Spark and pandas."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.tables import make_error, make_row, write_listing, write_tracks
from tonearm.runs import compaction
from tonearm.runs.destination import Destination
from tonearm.runs.rows import track_rows
from tonearm.runs.rows.schema import TRACKS

RUNBOOK = Path(__file__).resolve().parents[2] / "docs" / "rows.md"
SINCE_FORMAT_2 = ["term", "read_settings", "genre_settings", "tag_settings"]


def blocks(kind: str, folder: Path) -> list[str]:
    """Return the runbook's blocks of a kind, about the rows in ``folder``."""
    found = re.findall(rf"^```{kind}\n(.*?)^```", RUNBOOK.read_text(), re.M | re.S)
    assert found, f"the runbook has no block {kind}"
    return [re.sub(r"s3a?://labels/records", str(folder), block) for block in found]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with a long past.

    Its first rows are of 0.1.0, without a term; some of them were tagged again, twice in a term or in a later one, then
    some files were replaced, deleted and renamed. Part was compacted before, and one file of before stands there again.
    """
    folder = tmp_path_factory.mktemp("labels")
    random = np.random.default_rng(1)

    def row(key: int, **changes: Any) -> dict[str, Any]:
        make = make_error if key % 10 == 9 else make_row
        return make(key, random, track_key=key, uri=f"/m/{key}.mp3", title=f"{key} {changes}") | changes

    old = [row(key) for key in range(200)]
    write_tracks(folder, old, name="old_1-0.parquet")
    for path in (folder / "tracks").iterdir():
        pq.write_table(pq.read_table(path).drop_columns(SINCE_FORMAT_2), path)
    write_tracks(folder, [row(key, term=2, run_id="r2") for key in range(20, 60)], name="w_1-0.parquet")
    before = shutil.copy(folder / "tracks" / "w_1-0.parquet", folder / "before")
    compaction.compact(Destination.of(str(folder)))
    again = [row(key, term=2, run_id="r3") for key in range(30, 50)] + [
        row(key, term=3, run_id="r1") for key in range(40)
    ]
    late = [row(key, term=1, run_id="r9") for key in range(60)]  # of a writer that had lost the lock
    replaced = [row(key, uri=f"/m/{key - 1000}.mp3", term=3, run_id="r4") for key in range(1100, 1110)]
    write_tracks(folder, again + replaced, name="w_2-0.parquet")
    write_tracks(folder, late, name="w_0-0.parquet")
    shutil.move(before, folder / "tracks" / "w_1-0.parquet")
    # 100 to 109 were replaced, and 150 and later ones deleted; 300 is listed, and not tagged yet.
    kept = [entry for entry in old if not 100 <= entry["track_key"] < 110 and entry["track_key"] < 150]
    write_listing(folder, old[150:])
    left = next((folder / "manifest").glob("*.parquet")).read_bytes()
    write_listing(folder, [*kept, *replaced, row(300)])
    (folder / "manifest" / "part-00000-killed.parquet").write_bytes(left)  # no marker names it
    return folder


@pytest.fixture(scope="module")
def expected(labels: Path) -> dict[int, Any]:
    """The rows that tonearm shows, by key."""
    found = shown(labels)
    assert sorted(found) == [*range(100), *range(110, 150), *range(1100, 1110)]
    ranks = {key: (entry["term"], entry["run_id"]) for key, entry in found.items()}
    assert [ranks[key] for key in (10, 35, 45, 55)] == [(3, "r1"), (3, "r1"), (2, "r3"), (2, "r2")]
    assert ranks[120][0] is None
    return found


def shown(folder: Path) -> dict[int, Any]:
    rows = [row for batch in track_rows.scan(str(folder), TRACKS.names) for row in batch.to_pylist()]
    return {row["track_key"]: row for row in rows}


def titles(rows: dict[int, Any]) -> dict[int, str]:
    return {key: row["title"] for key, row in rows.items()}


def in_duckdb(folder: Path, query: str) -> list[tuple]:
    """Return what the documented view answers."""
    import duckdb

    with duckdb.connect() as database:
        database.execute(blocks("sql duckdb", folder)[0])
        return database.execute(query).fetchall()


def in_pandas(folder: Path) -> Any:
    names: dict[str, Any] = {}
    (code,) = blocks("python pandas", folder)
    exec(code, names)
    return names["tracks"]


@pytest.fixture(scope="module")
def old_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A destination of which no row has a term."""
    folder = tmp_path_factory.mktemp("old")
    random = np.random.default_rng(1)
    rows = [make_row(key, random, track_key=key, run_id="r1") for key in range(20)]
    write_tracks(folder, rows, name="a.parquet")
    write_tracks(folder, [row | {"run_id": "r2", "title": "later"} for row in rows[:5]], name="0.parquet")
    for path in (folder / "tracks").iterdir():
        pq.write_table(pq.read_table(path).drop_columns(SINCE_FORMAT_2), path)
    write_listing(folder, rows[:10])
    return folder


def test_duckdb_gives_the_rows_that_tonearm_gives(labels: Path, expected: dict[int, Any]) -> None:
    names = ", ".join(TRACKS.names)
    rows = [dict(zip(TRACKS.names, row, strict=True)) for row in in_duckdb(labels, f"SELECT {names} FROM tracks")]
    assert len(rows) == len(expected)
    got = {row["track_key"]: row for row in rows}
    assert titles(got) == titles(expected)
    assert all(got[key]["tags"] == expected[key]["tags"] and got[key]["term"] == expected[key]["term"] for key in got)
    import duckdb

    with duckdb.connect() as database:
        view, query = blocks("sql duckdb", labels)
        database.execute(view)
        genres = database.execute(query).fetchall()
        assert sum(count for _, count, _ in genres) == sum(row["status"] == "ok" for row in expected.values())
        assert all(0 <= score <= 1 for *_, score in genres)


def test_duckdb_sees_the_next_listing_without_a_new_view(labels: Path, tmp_path: Path) -> None:
    import duckdb

    folder = Path(shutil.copytree(labels, tmp_path / "labels"))
    with duckdb.connect() as database:
        database.execute(blocks("sql duckdb", folder)[0])
        write_listing(folder, [{"track_key": 7, "uri": "/m/7.mp3"}])
        assert database.execute("SELECT track_key FROM tracks").fetchall() == [(7,)]


@pytest.mark.parametrize("when", ["writing", "committed"])
def test_a_compaction_that_is_under_way_changes_nothing_in_the_views(
    labels: Path, expected: dict[int, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Inputs and outputs stand side by side then."""
    folder = Path(shutil.copytree(labels, tmp_path / "labels"))
    num_files = len(list((folder / "tracks").iterdir()))

    def killed(*how: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compaction, "_write_marks" if when == "writing" else "_complete_step", killed)
    with pytest.raises(KeyboardInterrupt):
        compaction.compact(Destination.of(str(folder)))
    assert len(list((folder / "tracks").iterdir())) > num_files
    assert dict(in_duckdb(folder, "SELECT track_key, title FROM tracks")) == titles(expected)
    assert sorted(in_pandas(folder)["track_key"]) == sorted(expected)
    assert titles(shown(folder)) == titles(expected)


def test_a_destination_of_0_1_0_is_read_by_the_same_views(old_labels: Path) -> None:
    found = shown(old_labels)
    assert sorted(found) == list(range(10)) and found[4]["title"] == "later"
    assert dict(in_duckdb(old_labels, "SELECT track_key, title FROM tracks")) == titles(found)
    rows = in_pandas(old_labels)
    assert dict(zip(rows["track_key"], rows["run_id"], strict=True)) == {
        key: row["run_id"] for key, row in found.items()
    }


def test_a_key_is_looked_up_in_one_row_group(labels: Path) -> None:
    """Statistics and order let DuckDB skip the rest."""
    import duckdb

    with duckdb.connect() as database:
        path = next((labels / "tracks").glob("compacted-*.parquet"))
        query = "SELECT stats_min_value, stats_max_value FROM parquet_metadata(?) WHERE path_in_schema = 'track_key'"
        groups = database.execute(query, [str(path)]).fetchall()
        assert groups and all(low is not None and high is not None for low, high in groups)


def test_pandas_gives_the_rows_that_tonearm_gives(labels: Path, expected: dict[int, Any]) -> None:
    rows = in_pandas(labels)
    assert len(rows) == len(expected)
    terms = [None if term != term else int(term) for term in rows["term"]]
    got = dict(zip(rows["track_key"], zip(terms, rows["run_id"], rows["uri"], strict=True), strict=True))
    assert got == {key: (row["term"], row["run_id"], row["uri"]) for key, row in expected.items()}


@pytest.mark.slow
def test_spark(labels: Path, expected: dict[int, Any], old_labels: Path) -> None:
    """The documented Spark view gives the rows that tonearm gives, of destinations with and without terms."""
    if importlib.util.find_spec("pyspark") is None or shutil.which("java") is None:
        pytest.skip("needs pyspark (pip install pyspark) and a Java runtime")
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
    try:
        for folder in (labels, old_labels):
            (code,) = blocks("python spark", folder)
            exec(code, {"spark": session})
            rows = session.sql("SELECT track_key, title, tags[0].label AS tag FROM tracks").collect()
            assert len(rows) == len(shown(folder))
            assert {row["track_key"]: row["title"] for row in rows} == titles(shown(folder))
            assert any(row["tag"] for row in rows)
    finally:
        session.stop()
