"""``where``: one expression over the columns, and nothing that reads, runs or tells of anything else."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from tests.tables import make_row, write_tracks
from tonearm.errors import UsageError
from tonearm.exports.export import export
from tonearm.runs.rows import schema, where
from tonearm.runs.rows.where import Where

TAG = {"label": "Guitar", "score": 0.9, "max_score": 0.9, "max_start_s": 0.0}
ROWS = [
    {"track_key": 1, "genre": "rock", "duration_s": 30.0, "title": "It's 7", "tags": [TAG], "silent": False},
    {"track_key": 2, "genre": "jazz", "duration_s": 90.0, "title": None, "tags": [], "silent": True},
    {"track_key": 3, "genre": None, "duration_s": None, "title": "100", "tags": None, "silent": None},
]


def table() -> pa.Table:
    rows = [{"uri": f"{row['track_key']}.mp3", "status": "ok", **row} for row in ROWS]
    return pa.Table.from_pylist(rows, schema=schema.TRACKS)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("genre = 'rock'", [1]),
        ("genre = 'rock' OR duration_s > 60", [1, 2]),
        ("genre = 'rock' -- a note", [1]),
        ("/* a note */ title = 'It''s 7'", [1]),
        ("genre IS NULL", [3]),
        ("genre IN ('rock', 'jazz') AND NOT silent", [1]),
        ("Genre ILIKE 'R%'", [1]),
        ("tracks.duration_s BETWEEN 20 AND 40", [1]),
        ("len(list_filter(tags, lambda tag: tag.score > 0.5)) > 0", [1]),
        ("list_contains([tag.label for tag in tags], 'Guitar')", [1]),
        ("TRY_CAST(title AS INTEGER) = 100", [3]),
        ("coalesce(genre, 'none') = 'none'", [3]),
        ("CASE WHEN silent THEN true ELSE false END", [2]),
        ("modified > now() - INTERVAL 7 DAY OR genre GLOB 'j*'", [2]),
        ("true", [1, 2, 3]),
    ],
)
def test_an_expression_chooses_rows(text: str, keys: list[int]) -> None:
    assert Where(text).keys(table()).tolist() == keys


def test_only_what_it_needs_is_read() -> None:
    assert Where("genre = 'rock' AND duration_s > 1").columns == ["track_key", "duration_s", "genre"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1=1; DROP TABLE tracks", "syntax error"),
        ("true); DROP TABLE tracks; SELECT (true", "Only SELECT statements"),
        ("true); SELECT (true", "more than one statement"),
        ("true) UNION SELECT track_key FROM tracks WHERE (true", "more than one expression"),
        ("true) ORDER BY (1", "more than one expression"),
        ("true) LIMIT (1", "more than one expression"),
        ("true) OR (SELECT true", "a query in it"),
        ("read_csv('/etc/passwd')", "calls read_csv()"),
        ("read_text('/etc/passwd') IS NULL", "calls read_text()"),
        ("glob('*') IS NULL", "calls glob()"),
        ("getenv('HOME') = '/root'", "calls getenv()"),
        ("current_setting('secret_directory') = ''", "calls current_setting()"),
        ("getvariable('x') = 1", "calls getvariable()"),
        ("main.lower(genre) = 'rock'", "calls lower()"),
        ("system.main.getenv('HOME') = ''", "calls getenv()"),
        ("pragma_version() IS NULL", "calls pragma_version()"),
        ("duckdb_settings() IS NULL", "calls duckdb_settings()"),
        ("nextval('x') > 0", "calls nextval()"),
        ("pg_sleep(10) IS NULL", "calls pg_sleep()"),
        ("write_log('x') IS NULL", "calls write_log()"),
        ("query('SELECT 1') IS NULL", "calls query()"),
        ("json_execute_serialized_sql('x') IS NULL", "calls json_execute_serialized_sql()"),
        ("random() > 0.5", "calls random()"),
        ("no_such_function(genre)", "calls no_such_function()"),
        ("(SELECT true)", "a query in it"),
        ("EXISTS (SELECT * FROM read_csv('/etc/passwd'))", "a query in it"),
        ("genre IN (SELECT genre FROM tracks)", "a query in it"),
        ("genre IN (FROM '/etc/passwd')", "a query in it"),
        ("row_number() OVER () > 1", "a window function"),
        ("sum(duration_s) > 1", "calls sum()"),
        ("columns(*) > 1", "has \\*"),
        ("genre = ?", "a parameter"),
        ("genre = $1", "a parameter"),
        ("#1 = 1", "positional reference"),
        ("ATTACH '/tmp/x.db'", "does not fit"),
        ("PRAGMA database_list", "DuckDB cannot read"),
        ("SET memory_limit = '1TB'", "DuckDB cannot read"),
        ("COPY tracks TO '/tmp/x'", "DuckDB cannot read"),
        ("/* no end", "unterminated"),
        ("(" * 3000, "more than 50 brackets within each other"),
        ("x" * 20_000, "has 20,000 characters, at most 4,000 are read"),
        ("", "is empty"),
        ("-- only a note", "not true or false|is empty|cannot read"),
        ("duration_s", "is double, and not true or false"),
        ("current_user = 'x'", "no column current_user"),
        ("gener = 'rock'", "no column gener, did you mean genre"),
        ('genre = "rock"', "no column rock .a text is written in single quotes"),
        ("lower(genre, 3) = 'rock'", "does not fit the columns"),
        ("genre = '\ud800'", "cannot read"),
    ],
)
def test_everything_else_is_refused_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        Where(text)
    message = caught.value.message
    assert len(message.splitlines()) == 1 and len(message) < 1500
    assert all(name in message for name in schema.TRACKS.names)


def test_what_cannot_be_worked_out_for_a_row_says_so() -> None:
    with pytest.raises(UsageError, match="cannot be worked out for every track"):
        Where("CAST(title AS INTEGER) > 3").keys(table())


def test_the_database_itself_reaches_nothing(tmp_path: Path) -> None:
    """Were the tree not looked at, this would still hold."""
    (tmp_path / "secret.csv").write_text("a\n1\n")
    hidden = table()  # noqa: F841  Python's variables are no tables here
    database = where._open_sealed_database()
    for query in (
        f"SELECT * FROM read_csv('{tmp_path}/secret.csv')",
        f"SELECT * FROM '{tmp_path}/secret.csv'",
        f"ATTACH '{tmp_path}/new.db' AS other",
        f"COPY (SELECT 1) TO '{tmp_path}/new.csv'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET memory_limit = '1TB'",
        "SELECT * FROM hidden",
    ):
        with pytest.raises(duckdb.Error):
            database.execute(query)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret.csv"]


@pytest.mark.processes
def test_an_export_has_only_the_rows_that_pass(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [make_row(number, random, track_key=number, duration_s=float(number)) for number in range(20)]
    write_tracks(tmp_path / "out", rows[:12])
    write_tracks(tmp_path / "out", rows[12:], name="part-1.parquet")
    for kind, name in (("csv", "tracks.csv"), ("jsonl", "tracks.jsonl")):
        counts = export(str(tmp_path / "out"), kind, str(tmp_path / name), where="duration_s >= 10")
        assert counts.num_tracks == 10
        assert len((tmp_path / name).read_text().splitlines()) == 10 + (kind == "csv")
    counts = export(str(tmp_path / "out"), "csv", str(tmp_path / "none.csv"), where="duration_s < 0")
    assert counts.num_tracks == 0
