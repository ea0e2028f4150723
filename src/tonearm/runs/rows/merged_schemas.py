"""The rows of several files of ``tracks/`` as one table: today's columns, and those that tonearm knows nothing of."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from tonearm.runs.destination import Destination
from tonearm.runs.rows import finished_rows, schema
from tonearm.runs.rows.track_files import TrackFile
from tonearm.storage import filesystems


def alike(destination: Destination, files: Sequence[TrackFile]) -> list[tuple[list[TrackFile], pa.Schema]]:
    """Return the files in groups that can stand in one table each, with its schema.

    That is ``schema.TRACKS`` and after it the columns that tonearm knows nothing of. Two programs may have given one
    name to columns that do not go together, such as text and numbers: those files are in groups of their own.

    Raises:
        DestinationError: a file that cannot be read.
    """
    filesystem, _ = filesystems.arrow_filesystem(destination.tracks)

    def unknown(file: TrackFile) -> pa.Schema:
        fields = pq.read_schema(file.path, filesystem=filesystem)
        return pa.schema([field for field in fields if field.name not in schema.TRACKS.names])

    with (
        finished_rows.reading(destination.url),
        ThreadPoolExecutor(finished_rows.READERS, thread_name_prefix="schemas") as pool,
    ):
        found = list(pool.map(unknown, files))
    schemas, numbers = [schema.TRACKS], dict[pa.Schema, int]()
    for added in dict.fromkeys(found):
        for number, before in enumerate(schemas):
            try:
                schemas[number] = pa.unify_schemas([before, added], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                continue
            numbers[added] = number
            break
        else:
            numbers[added] = len(schemas)
            schemas.append(pa.unify_schemas([schema.TRACKS, added]))
    groups: list[list[TrackFile]] = [[] for _ in schemas]
    for file, added in zip(files, found, strict=True):
        groups[numbers[added]].append(file)
    return [(group, wanted) for group, wanted in zip(groups, schemas, strict=True) if group]


def to_schema(destination: Destination, file: TrackFile, table: pa.Table, wanted: pa.Schema) -> pa.Table:
    """Return rows of ``file`` in another schema; see ``conformed``.

    Raises:
        DestinationError: another program has written there what cannot be a row; the message names the file.
    """
    try:
        return conformed(table, wanted)
    except finished_rows.PARQUET_ERRORS as error:
        raise finished_rows.unreadable(destination.url, error, file) from None


def conformed(table: pa.Table, wanted: pa.Schema) -> pa.Table:
    """Return the rows in another schema; a column that they lack is null.

    Raises:
        ArrowInvalid, ArrowTypeError, ArrowNotImplementedError: a value that has no such type, or null where every row
            has one.
    """
    columns = []
    for field in wanted:
        is_there = field.name in table.column_names
        column = table[field.name].cast(field.type) if is_there else pa.nulls(table.num_rows, field.type)
        if not field.nullable and column.null_count:
            raise pa.ArrowInvalid(f"it has {'rows without' if is_there else 'no column'} {field.name}")
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=wanted)
