"""A table of the user's own as a source: Parquet, CSV or JSON Lines with a ``uri`` column, read in batches.

``file_name``, ``file`` and ``path`` are taken for ``uri`` where a table has one of them instead.

A relative URI is relative to the table's folder. A local file is looked up, so its size and time are those of now. For
an object in a store the columns ``size``, ``etag`` and ``modified`` count where the table has them; one request a row
would cost more than it tells, so without them a changed object is not noticed.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow as pa

from tonearm.errors import SourceError
from tonearm.library import stores
from tonearm.library.failures import diagnose
from tonearm.library.formats import extension_of
from tonearm.library.local_listing import local_ref
from tonearm.library.track_ref import TrackRef, make_ref
from tonearm.library.uris import folder_of, is_local, local_path, local_uri, resolve, scheme, shown

Row = Mapping[str, Any]
URI, SIZE = ("uri", "file_name", "file", "path"), ("size_bytes", "size")
ETAG, MODIFIED = ("etag",), ("modified", "last_modified")
KNOWN_SCHEMES = {"file", "s3", "http", "https", "hf", "arrow+file", "memory", *stores.EXTRAS}
BATCH_ROWS = 10_000


def list_table(source: str) -> Iterator[TrackRef]:
    """Yield a track for each row.

    Raises:
        SourceError: the table is missing, unreadable or without a ``uri`` column, or a row cannot be understood.
    """
    for ref, _ in list_rows(source):
        yield ref


def list_rows(source: str, columns: Sequence[str] = ()) -> Iterator[tuple[TrackRef, Row]]:
    """Yield a track for each row, with the row's further ``columns``; ``*`` for all there are.

    Raises:
        SourceError: as ``list_table``, or one of the columns is missing.
    """
    folder = folder_of(source)
    for number, row in enumerate(_rows(source, columns), 1):
        try:
            yield _ref(row, folder), row
        except ValueError as error:
            raise SourceError(f"{shown(source)}, row {number}: {error}") from None


def _ref(row: Row, folder: str) -> TrackRef:
    given = next((row[name] for name in URI if name in row), None)
    if not isinstance(given, str) or not given.strip():
        raise ValueError(f"got {given!r} as uri, expected a path or a URL; fill it in or leave the row out")
    uri = resolve(given, folder)
    if scheme(uri) not in KNOWN_SCHEMES:
        raise ValueError(f"got {shown(uri)}, expected one of {stores.KNOWN}")
    if is_local(uri):
        path = local_path(uri)
        try:
            return local_ref(path)
        except OSError:
            return make_ref(local_uri(path))  # reading it says what is wrong
    try:
        uri.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the uri {shown(uri)} is not Unicode; save the table as UTF-8") from None
    etag = _first(row, ETAG)
    return make_ref(uri, _size(_first(row, SIZE)), str(etag).strip('"') if etag else None, _time(_first(row, MODIFIED)))


def _first(row: Row, names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _size(value: Any) -> int | None:
    if value is None or value != value:  # nan is how data frames write a missing number
        return None
    try:
        size = int(value)
    except (TypeError, ValueError):
        size = -1
    if size < 0:
        raise ValueError(f"got {value!r} as size, expected a number of bytes")
    return size


def _time(value: Any) -> datetime.datetime | None:
    if value is None or value != value:
        return None
    try:
        if isinstance(value, str):
            value = datetime.datetime.fromisoformat(value)
        elif isinstance(value, int | float):
            value = datetime.datetime.fromtimestamp(value, datetime.UTC)
        if not isinstance(value, datetime.datetime):
            raise ValueError
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"got {value!r} as modified, expected a time such as 2026-01-31T12:00:00Z") from None
    # A time without a zone is UTC, here as in Parquet.
    return value.astimezone(datetime.UTC) if value.tzinfo else value.replace(tzinfo=datetime.UTC)


def _rows(source: str, columns: Sequence[str]) -> Iterator[Row]:
    read = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}[extension_of(source.partition("?")[0])]
    kind = scheme(source)
    try:
        with _open(source) as file:
            yield from read(source, file, columns)
    except (pa.ArrowInvalid, csv.Error, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SourceError(
            f"{shown(source)} is not a readable table ({stores.reason(error)}); save it as UTF-8 again"
        ) from None
    except SourceError:
        raise
    except stores.store_errors(kind) as error:
        failure = diagnose(error)
        advice = "expected a .parquet, .csv or .jsonl file with a uri column"
        raise SourceError(f"the table {shown(source)} cannot be read ({failure.reason}); {advice}") from None


def _open(source: str) -> BinaryIO:
    filesystem, path = stores.filesystem(source)
    file: BinaryIO = filesystem.open(path, "rb")
    return file


def _check(source: str, names: list[str], columns: Sequence[str]) -> None:
    got = ", ".join(names[:20]) or "none"
    if not set(URI) & set(names):
        raise SourceError(f"{shown(source)} has the columns {got}; expected one named uri with a path or URL a row")
    if missing := [name for name in columns if name not in (*names, "*")]:
        raise SourceError(f"{shown(source)} has the columns {got}; expected {', '.join(missing)} too")


def _parquet(source: str, file: BinaryIO, columns: Sequence[str]) -> Iterator[Row]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(file)
    names = table.schema_arrow.names
    _check(source, names, columns)
    wanted = [name for name in dict.fromkeys([*URI, *SIZE, *ETAG, *MODIFIED, *columns]) if name in names]
    wanted = names if "*" in columns else wanted
    for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
        yield from batch.to_pylist()


def _csv(source: str, file: BinaryIO, columns: Sequence[str]) -> Iterator[Row]:
    rows = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
    _check(source, list(rows.fieldnames or ()), columns)
    yield from rows


def _jsonl(source: str, file: BinaryIO, columns: Sequence[str]) -> Iterator[Row]:
    for number, line in enumerate(io.TextIOWrapper(file, encoding="utf-8-sig"), 1):
        if not line.strip():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise SourceError(f"{shown(source)}, line {number}: got {line.strip()[:40]}, expected an object with a uri")
        if number == 1:
            _check(source, list(row), columns)
        yield row
