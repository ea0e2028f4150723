"""The files of ``todo/``, which a run reads as its source: tracks to tag, and rows to write again.

They are written before a run begins and removed by the next one.
"""

from __future__ import annotations

import dataclasses
import io
import posixpath
import uuid
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tonearm.runs.destination import Destination
from tonearm.runs.places import KEY, TODO
from tonearm.runs.resume import Rewrite
from tonearm.runs.rows import finished_rows, merged_schemas, schema
from tonearm.runs.rows.ranking import among
from tonearm.runs.rows.track_files import TrackFile
from tonearm.storage import filesystems

# Rows in one file of those that a run extends, some 10 KB each: a task reads a whole file.
CARRIED_ROWS = 4096
# The column in which such a file has the row as it stands.
OLD = "old"


@dataclasses.dataclass(frozen=True)
class TodoPart:
    """A Parquet file of manifest rows that are to be tagged.

    Attributes:
        heads: the heads that score them; empty for all heads of the run.
        again: None for new tracks. Otherwise each track's present row is in the column ``old``; parts in which that
            column has the same type have the same number here.
    """

    url: str
    num_tracks: int
    heads: tuple[str, ...] = ()
    again: int | None = None


def write_todo(
    destination: Destination,
    parts: Sequence[str],
    done: NDArray[np.int64],
    *,
    check: Callable[[], None] = lambda: None,
) -> list[TodoPart]:
    """Return parts with the manifest rows whose key is not in ``done``.

    Args:
        parts: the manifest's Parquet files.
        done: sorted keys.
        check: called before the parts of earlier runs are removed; raises if another run has the lock.

    Raises:
        DestinationError: a part cannot be read, or there is no space.
    """
    folder = _clear_todo(destination, check)
    todo = []
    for number, part in enumerate(parts):
        with filesystems.reading(part):
            # A first run reads the manifest's parts as they are: nothing has to be copied.
            if not len(done):
                num_tracks = pq.read_metadata(io.BytesIO(filesystems.read_bytes(part))).num_rows
                todo.append(TodoPart(part, num_tracks))
                continue
            table = filesystems.read_table(part)
        table = table.filter(pa.array(~among(table[KEY].to_numpy(), done)))
        if table.num_rows:
            url = posixpath.join(folder, _unique_name(f"part-{number:05d}"))
            filesystems.write_table(url, table)
            todo.append(TodoPart(url, table.num_rows))
    return todo


def write_rewrites(destination: Destination, rewrites: Sequence[Rewrite]) -> list[TodoPart]:
    """Write the rows that are to be written again as parts, with each track's present row in the column ``old``.

    To be called after ``write_todo``, which clears the folder.
    """
    todo: list[TodoPart] = []
    by_schema = [
        (rewrite, *group) for rewrite in rewrites for group in merged_schemas.alike(destination, list(rewrite.rows))
    ]
    for number, (rewrite, files, old) in enumerate(by_schema):
        for rows in _carried_rows(destination, rewrite, files, old):
            url = posixpath.join(_todo_folder(destination), _unique_name(f"again-{number}-{len(todo):05d}"))
            carried = pa.StructArray.from_arrays([column.combine_chunks() for column in rows.columns], fields=list(old))
            columns = [rows[name] for name in schema.MANIFEST.names]
            fields = [*schema.MANIFEST, pa.field(OLD, carried.type)]
            filesystems.write_table(url, pa.Table.from_arrays([*columns, carried], schema=pa.schema(fields)))
            todo.append(TodoPart(url, rows.num_rows, rewrite.heads, again=number))
    return todo


def _carried_rows(
    destination: Destination, rewrite: Rewrite, files: Sequence[TrackFile], target_schema: pa.Schema
) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for file, table in finished_rows.scan_files(destination.url, None, files):
        waiting.append(
            merged_schemas.to_schema(destination, file, table.filter(pa.array(rewrite.rows[file])), target_schema)
        )
        while sum(map(len, waiting)) >= CARRIED_ROWS:
            rows = pa.concat_tables(waiting)
            yield rows.slice(0, CARRIED_ROWS)
            waiting = [rows.slice(CARRIED_ROWS)]
    if any(map(len, waiting)):
        yield pa.concat_tables(waiting)


def _todo_folder(destination: Destination) -> str:
    return destination.checkpoint(TODO)


def _unique_name(name: str) -> str:
    # Unique per run: what a run that has lost the lock still writes must never be taken for a part of this run's.
    return f"{name}-{uuid.uuid4().hex[:8]}.parquet"


def _clear_todo(destination: Destination, check: Callable[[], None]) -> str:
    folder = _todo_folder(destination)
    with filesystems.reading(folder):
        names = filesystems.list_files(folder)
    # List first: after the check, another run may have taken the lock and be writing its parts here.
    check()
    for name in names:
        filesystems.delete(posixpath.join(folder, name))
    return folder
