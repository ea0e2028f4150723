"""Rows of files with different columns come into one schema, or are refused with the name of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tables import make_row, write_tracks
from tonearm.errors import DestinationError
from tonearm.runs.destination import Destination
from tonearm.runs.rows import merged_schemas, track_files
from tonearm.runs.rows.schema import TRACKS

FIELDS = pa.schema([pa.field("track_key", pa.int64(), nullable=False), pa.field("album", pa.string())])


def write_files(folder: Path, *values: object) -> Destination:
    """Write one file for each value, with a row that has it in the column ``mine``; None adds no column."""
    for number, value in enumerate(values):
        path = folder / "tracks" / f"{number}.parquet"
        write_tracks(folder, [make_row(number, np.random.default_rng(number))], name=path.name)
        if value is not None:
            pq.write_table(pq.read_table(path, partitioning=None).append_column("mine", pa.array([value])), path)
    return Destination.of(str(folder))


def test_columns_that_rows_lack_are_null_and_types_follow_the_schema() -> None:
    table = merged_schemas.conformed(pa.table({"track_key": pa.array([1, 2], pa.int32())}), FIELDS)
    assert table.schema.equals(FIELDS)
    assert table.to_pydict() == {"track_key": [1, 2], "album": [None, None]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"album": ["x"]}), "it has no column track_key"),
        (pa.table({"track_key": pa.array([None], pa.int64())}), "it has rows without track_key"),
    ],
)
def test_rows_without_a_required_value_are_refused(table: pa.Table, message: str) -> None:
    with pytest.raises(pa.ArrowInvalid, match=message):
        merged_schemas.conformed(table, FIELDS)


def test_a_file_whose_rows_are_refused_is_named(tmp_path: Path) -> None:
    destination = write_files(tmp_path, None)
    (file,) = track_files.finished(destination.url)
    with pytest.raises(DestinationError, match=r"0\.parquet"):
        merged_schemas.to_schema(destination, file, pa.table({"track_key": ["no number"]}), FIELDS)


def test_numbers_of_two_types_share_a_table_and_text_of_the_same_name_does_not(tmp_path: Path) -> None:
    destination = write_files(tmp_path, None, "text", 1, 2.5)
    files = track_files.finished(destination.url)
    groups = {tuple(file.name for file in group): fields for group, fields in merged_schemas.alike(destination, files)}
    # Which of the two kinds shares the table of the files without the column depends on their order.
    assert [fields.field("mine").type for fields in groups.values()] == [pa.string(), pa.float64()]
    assert list(groups) == [("0.parquet", "1.parquet"), ("2.parquet", "3.parquet")]
    assert all(fields.names[:-1] == TRACKS.names for fields in groups.values())
