"""Bring the rows of several files of ``tracks/`` to one schema: tonearm's columns, and those of other programs."""

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
    """Return the files in groups whose rows fit into one table, and the schema of each table.

    A schema is ``schema.TRACKS`` and after it the columns that tonearm does not know. Two programs may have given the
    same name to columns whose types cannot be merged, such as text and numbers; such files are in different groups.

    Raises:
        DestinationError: a file cannot be read.
    """
    filesystem = filesystems.arrow_filesystem(destination.tracks).filesystem

    def unknown(file: TrackFile) -> pa.Schema:
        fields = pq.read_schema(file.path, filesystem=filesystem)
        return pa.schema([field for field in fields if field.name not in schema.TRACKS.names])

    with (
        finished_rows.reading(destination.url),
        ThreadPoolExecutor(finished_rows.READERS, thread_name_prefix="schemas") as pool,
    ):
        added_schemas = list(pool.map(unknown, files))
    schemas, group_numbers = [schema.TRACKS], dict[pa.Schema, int]()
    # Nearly all files have the same columns, so the merge is tried once per different schema and not per file.
    for added_schema in dict.fromkeys(added_schemas):
        for number, merged_schema in enumerate(schemas):
            try:
                # "permissive" widens types, such as int32 and int64, but does not turn numbers into text.
                schemas[number] = pa.unify_schemas([merged_schema, added_schema], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                continue
            group_numbers[added_schema] = number
            break
        else:
            group_numbers[added_schema] = len(schemas)
            schemas.append(pa.unify_schemas([schema.TRACKS, added_schema]))
    groups: list[list[TrackFile]] = [[] for _ in schemas]
    for file, added_schema in zip(files, added_schemas, strict=True):
        groups[group_numbers[added_schema]].append(file)
    return [(group, group_schema) for group, group_schema in zip(groups, schemas, strict=True) if group]


def to_schema(destination: Destination, file: TrackFile, table: pa.Table, target_schema: pa.Schema) -> pa.Table:
    """Return rows of ``file`` in another schema; see ``conformed``.

    Raises:
        DestinationError: another program has written values that do not fit; the message names the file.
    """
    try:
        return conformed(table, target_schema)
    except finished_rows.PARQUET_ERRORS as error:
        raise finished_rows.unreadable(destination.url, error, file) from None


def conformed(table: pa.Table, target_schema: pa.Schema) -> pa.Table:
    """Return the rows in another schema; a column that they lack is null.

    Raises:
        ArrowInvalid, ArrowTypeError, ArrowNotImplementedError: a value cannot be cast, or is null in a column that may
            not have nulls.
    """
    columns = []
    for field in target_schema:
        has_column = field.name in table.column_names
        column = table[field.name].cast(field.type) if has_column else pa.nulls(table.num_rows, field.type)
        if not field.nullable and column.null_count:
            raise pa.ArrowInvalid(f"it has {'rows without' if has_column else 'no column'} {field.name}")
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=target_schema)
