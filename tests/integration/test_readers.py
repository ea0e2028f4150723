"""What docs/cluster.md says of reading the rows: its own blocks, run in DuckDB, Spark and pandas."""

from __future__ import annotations

import datetime
import importlib.util
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.tables import make_row, make_tracks, write_tracks
from tonearm.library import compaction, table
from tonearm.library.runs import Destination

RUNBOOK = Path(__file__).resolve().parents[2] / "docs" / "cluster.md"
DAY = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def blocks(kind: str, folder: Path) -> list[str]:
    """Return the runbook's blocks of a kind, about the rows in ``folder``."""
    found = re.findall(rf"^```{kind}\n(.*?)^```", RUNBOOK.read_text(), re.M | re.S)
    assert found, f"the runbook has no block {kind}"
    return [re.sub(r"s3a?://labels/records", str(folder), block) for block in found]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of many tracks, of some of them several versions, and one that a compaction has left twice."""
    folder = tmp_path_factory.mktemp("labels")
    make_tracks(folder, 400)
    random = np.random.default_rng(1)

    def version(key: int, name: str, day: int | None, run: str) -> dict[str, object]:
        modified = None if day is None else DAY + datetime.timedelta(days=day)
        return make_row(key, random, track_key=key, uri=f"s3://b/{name}.mp3", modified=modified, run_id=run)

    first = [version(1, "a", 1, "r1"), version(2, "b", None, "r1"), version(7, "d", 3, "r1")]
    second = [version(3, "a", 0, "r2"), version(4, "b", None, "r2"), version(5, "c", 1, "r2")]
    write_tracks(folder, first, name="v1.parquet")
    write_tracks(folder, second, name="v2.parquet")
    compaction.compact(Destination.of(str(folder)))
    write_tracks(folder, [version(6, "c", 1, "r2"), version(8, "d", 4, "r1")], name="v3.parquet")
    return folder


@pytest.fixture(scope="module")
def expected(labels: Path) -> list[int]:
    return table.latest(str(labels)).keys.tolist()


def test_duckdb(labels: Path, expected: list[int]) -> None:
    import duckdb

    with duckdb.connect() as database:
        view, query = blocks("sql duckdb", labels)
        database.execute(view)
        keys = [key for (key,) in database.execute("SELECT track_key FROM tracks ORDER BY track_key").fetchall()]
        assert keys == expected
        genres = database.execute(query).fetchall()
        assert sum(count for _, count, _ in genres) > 300 and all(0 <= score <= 1 for *_, score in genres)
        nested = "SELECT tags[1].label, len(windows), len(genre_embedding) FROM tracks WHERE status = 'ok' LIMIT 1"
        ((label, windows, size),) = database.execute(nested).fetchall()
        assert label and windows and size == 8


def test_duckdb_sees_no_more_while_a_row_stands_twice(labels: Path, expected: list[int], tmp_path: Path) -> None:
    import duckdb

    folder = Path(shutil.copytree(labels, tmp_path / "labels"))
    first = next((folder / "tracks").glob("*.parquet"))
    shutil.copy(first, folder / "tracks" / "twice.parquet")
    with duckdb.connect() as database:
        database.execute(blocks("sql duckdb", folder)[0])
        assert database.execute("SELECT count(*), count(DISTINCT track_key) FROM tracks").fetchall() == [
            (len(expected), len(expected))
        ]


def test_a_key_is_looked_up_in_one_row_group(labels: Path, expected: list[int]) -> None:
    """Statistics and order let DuckDB skip the rest."""
    import duckdb

    with duckdb.connect() as database:
        path = next((labels / "tracks").glob("compacted-*.parquet"))
        query = "SELECT stats_min_value, stats_max_value FROM parquet_metadata(?) WHERE path_in_schema = 'track_key'"
        groups = database.execute(query, [str(path)]).fetchall()
        assert groups and all(low is not None and high is not None for low, high in groups)


def test_pandas(labels: Path, expected: list[int]) -> None:
    names: dict[str, object] = {}
    (code,) = blocks("python pandas", labels)
    exec(code, names)
    assert sorted(names["tracks"]["track_key"]) == expected  # type: ignore[index]


@pytest.mark.slow
def test_spark(labels: Path, expected: list[int]) -> None:
    """The documented Spark view gives the rows that tonearm gives."""
    if importlib.util.find_spec("pyspark") is None or shutil.which("java") is None:
        pytest.skip("needs pyspark (pip install pyspark) and a Java runtime")
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
    try:
        (view,) = blocks("sql spark", labels)
        session.sql(view)
        rows = session.sql("SELECT track_key, tags[0].label AS tag FROM tracks ORDER BY track_key").collect()
        assert [row["track_key"] for row in rows] == expected
        assert any(row["tag"] for row in rows)
    finally:
        session.stop()
