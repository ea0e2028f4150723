"""A manifest of the user's own as a source: Parquet, CSV or JSON Lines with a ``uri`` column."""

from __future__ import annotations

import datetime
import os
import posixpath
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from tonearm.errors import SourceError
from tonearm.library import stores
from tonearm.library.sources import TrackRef, folder_of, local_path, local_ref, local_uri, make_ref

OPTIONAL = {"size_bytes": ("size_bytes", "size"), "etag": ("etag",), "modified": ("modified", "last_modified")}


def list_table(source: str) -> Iterator[TrackRef]:
    """Yield a row's track each; relative URIs are relative to the table's folder.

    Size, etag and time are the table's where it has them; a local file's are looked up, an object's stay unknown.

    Raises:
        SourceError: the table is missing, unreadable or without a ``uri`` column.
    """
    folder = folder_of(source)
    for batch in _batches(source):
        names = batch.schema.names
        if "uri" not in names:
            raise SourceError(f"{source} has the columns {', '.join(names)}; expected one named uri with a path or URL a row")
        columns = {"uri": batch["uri"].to_pylist()}
        for field, aliases in OPTIONAL.items():
            name = next((alias for alias in aliases if alias in names), None)
            columns[field] = batch[name].to_pylist() if name else [None] * batch.num_rows
        for uri, size, etag, modified in zip(*columns.values(), strict=True):
            if not uri:
                raise SourceError(f"{source} has a row without a uri; fill it in or leave the row out")
            yield _ref(str(uri), folder, size, etag, _utc(modified))


def _ref(uri: str, folder: str, size: Any, etag: Any, modified: datetime.datetime | None) -> TrackRef:
    if stores.SCHEME.match(uri) and not uri.startswith("file://"):
        return make_ref(uri, int(size) if size is not None else None, str(etag) if etag else None, modified)
    if not stores.is_local(folder):
        return make_ref(posixpath.join(folder, uri), size, etag, modified)
    path = os.path.normpath(os.path.join(folder, local_path(uri)))
    try:
        return local_ref(path)
    except OSError:
        return make_ref(local_uri(path), None, None, None)  # it becomes a row that says not_found


def _utc(value: Any) -> datetime.datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime.datetime):
        return None
    return value.astimezone(datetime.UTC) if value.tzinfo else value.replace(tzinfo=datetime.UTC)


def _batches(source: str) -> Iterator[pa.RecordBatch]:
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet as pq

    filesystem, path = stores.arrow_filesystem(local_path(source) if stores.is_local(source) else source)
    try:
        if source.lower().endswith(".parquet"):
            with filesystem.open_input_file(path) as file:
                yield from pq.ParquetFile(file).iter_batches(batch_size=10_000)
        elif source.lower().endswith(".csv"):
            with filesystem.open_input_stream(path) as file, pyarrow.csv.open_csv(file) as reader:
                yield from reader
        else:
            with filesystem.open_input_stream(path) as file:
                yield from pyarrow.json.read_json(file).to_batches(10_000)
    except FileNotFoundError:
        raise SourceError(f"no table {source}; expected a .parquet, .csv or .jsonl file with a uri column") from None
    except pa.ArrowInvalid as error:
        raise SourceError(f"{source} is not a table that can be read ({stores.reason(error)})") from None
    except PermissionError as error:
        raise SourceError(f"{source} may not be read ({stores.reason(error)})") from None
