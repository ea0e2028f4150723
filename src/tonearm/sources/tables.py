"""A table of the user's own as a source: Parquet, CSV or JSON Lines with a ``uri`` column, read in batches.

``file_name``, ``file`` and ``path`` are taken for ``uri`` where a table has one of them instead.

A relative URI is relative to the table's folder. A local file is looked up, so its size and time are those of now. For
an object in a store the columns ``size``, ``etag`` and ``modified`` count where the table has them; one request per row
would cost more than it tells. Without them a changed object is not noticed.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tonearm.errors import FetchError, SourceError
from tonearm.sources.extensions import extension_of, is_table
from tonearm.sources.local import any_ref, missing
from tonearm.sources.source import LabelledRows, ReadLimits, Shape, only_label
from tonearm.sources.track_ref import MAX_SIZE_BYTES, TrackRef, from_nanoseconds, from_seconds, make_ref, to_utc
from tonearm.storage import filesystems
from tonearm.storage.store_errors import diagnose
from tonearm.storage.uris import (
    SCHEME,
    WILDCARDS,
    folder_of,
    is_local,
    local_path,
    resolve,
    scheme,
    scrubbed,
    shown,
    split_url,
    to_unicode,
)

Row = Mapping[str, Any]
URI, SIZE = ("uri", "file_name", "file", "path"), ("size_bytes", "size")
ETAG, MODIFIED = ("etag",), ("modified", "last_modified")
LABEL_COLUMNS = ("label", "labels", "genre", "genres", "tags", "class", "category")
BATCH_ROWS = 10_000
# Times since 1970 are in seconds, or in the smaller units that pandas and JavaScript write: as seconds, those would be
# past the year 5138.
MAX_SECONDS = 10**11
# How pandas, R and spreadsheets write that there is no value.
MISSING = frozenset({"", "nan", "nat", "<na>", "na", "n/a", "none", "null"})


def list_table(source: str) -> Iterator[TrackRef]:
    """Yield a track for each row.

    A row without a readable URI is a track too: one whose object is not found.

    Raises:
        SourceError: the table is missing, unreadable or without a ``uri`` column, or holds text in place of numbers.
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
            yield _ref(row, folder) or _unnamed(source, number, folder), row
        except ValueError as error:
            raise SourceError(f"{shown(source)}, row {number}: {error}") from None


def _unnamed(source: str, number: int, folder: str) -> TrackRef:
    """Return what stands for a row without a URI: a place that does not exist, and says which row it is."""
    uri = resolve(f"{posixpath.basename(shown(source))}, row {number} without a uri", folder)
    # A row that is left out would go unnoticed; as a track that fails it is counted and named.
    return any_ref(local_path(uri)) if is_local(uri) else make_ref(to_unicode(uri))


def _ref(row: Row, folder: str) -> TrackRef | None:
    given = next((row[name] for name in URI if name in row), None)
    if not isinstance(given, str) or not given.strip():
        return None
    if SCHEME.match(given.strip()):  # a name may begin with a space, and a URL never does
        given = given.strip()
    uri = resolve(given, folder)
    if is_local(uri):
        return any_ref(local_path(uri))
    # The manifest is Parquet, whose text is UTF-8; a lone surrogate would end the listing there.
    uri = to_unicode(uri)
    etag = _first(row, ETAG)
    return make_ref(uri, _size(_first(row, SIZE)), str(etag).strip('"') if etag else None, _time(_first(row, MODIFIED)))


def _first(row: Row, names: tuple[str, ...]) -> object:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _number(value: object) -> float | int | None:
    """Return a number, also one that is written as text, as CSV has all of them; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return int(value) if isinstance(value, int | str) else value
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        return None


def _size(value: object) -> int | None:
    if _is_missing(value):
        return None
    size = _number(value)
    if size is None:
        raise ValueError(f"got {value!r} as size, expected a number of bytes")
    # Columns with gaps are of floats, in pandas and so in the files that it writes. A number that is no size says that
    # it is not known.
    return int(size) if 0 <= size <= MAX_SIZE_BYTES and size == int(size) else None


def _time(value: object) -> datetime.datetime | None:
    if _is_missing(value):
        return None
    try:
        if isinstance(value, str):
            value = datetime.datetime.fromisoformat(value.strip())
    except ValueError:
        pass
    if isinstance(value, datetime.datetime):
        return to_utc(value)
    number = _number(value)
    if number is None:
        raise ValueError(f"got {value!r} as modified, expected a time such as 2026-01-31T12:00:00Z")
    if abs(number) < MAX_SECONDS:
        return from_seconds(number)
    # Milliseconds, microseconds, then nanoseconds: the first unit in which the time is before 5138.
    for unit in (10**3, 10**6, 10**9):
        if abs(number) < MAX_SECONDS * unit:
            return from_nanoseconds(int(number * (10**9 // unit)))
    return None


def _is_missing(value: object) -> bool:
    """Return whether a value is how data frames write that there is none."""
    return value is None or value != value or (isinstance(value, str) and value.strip().lower() in MISSING)


def _rows(source: str, columns: Sequence[str]) -> Iterator[Row]:
    read = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}[extension_of(source.partition("?")[0])]
    kind = scheme(source)
    try:
        with _open(source) as file:
            yield from read(source, file, columns)
    except (pa.ArrowException, csv.Error, ValueError, OverflowError) as error:
        raise SourceError(
            f"{shown(source)} is not a readable table ({filesystems.reason(error)}); save it as UTF-8 again"
        ) from None
    except SourceError:
        raise
    except filesystems.store_errors(kind) as error:
        failure = diagnose(error)
        advice = "expected a .parquet, .csv or .jsonl file with a uri column"
        raise SourceError(f"the table {shown(source)} cannot be read ({failure.reason}); {advice}") from None


def _open(source: str) -> BinaryIO:
    place = filesystems.locate(source)
    file: BinaryIO = place.store.open(place.path, "rb")
    return file


def _check(source: str, names: list[str], columns: Sequence[str]) -> None:
    got = ", ".join(names[:20]) or "none"
    if not set(URI) & set(names):
        raise SourceError(f"{shown(source)} has the columns {got}; expected one named uri with one path or URL per row")
    if missing := [name for name in columns if name not in (*names, "*")]:
        raise SourceError(f"{shown(source)} has the columns {got}; expected {', '.join(missing)} too")


def _parquet(source: str, file: BinaryIO, columns: Sequence[str]) -> Iterator[Row]:
    table = pq.ParquetFile(file)
    names = table.schema_arrow.names
    _check(source, names, columns)
    read = [name for name in dict.fromkeys([*URI, *SIZE, *ETAG, *MODIFIED, *columns]) if name in names]
    read = names if "*" in columns else read
    for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=read):
        # to_pylist raises for a whole batch where one time is outside the years of datetime.
        for name in set(MODIFIED) & set(read):
            batch = batch.set_column(read.index(name), name, _readable(batch[name]))
        yield from batch.to_pylist()


def _readable(column: pa.Array) -> pa.Array:
    """Return a column of times without those that Python does not have, such as the year 10000."""
    if not pa.types.is_timestamp(column.type):
        return column
    unit = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[column.type.unit]
    times = [
        None if value is None else from_nanoseconds(value * (10**9 // unit))
        for value in column.cast("int64").to_pylist()
    ]
    return pa.array(times, pa.timestamp("us", "UTC"))


def _csv(source: str, file: BinaryIO, columns: Sequence[str]) -> Iterator[Row]:
    # utf-8-sig: Excel begins a CSV with a byte order mark, which would become part of the first column's name.
    rows = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
    _check(source, list(rows.fieldnames or ()), columns)
    yield from rows


def _jsonl(source: str, file: BinaryIO, columns: Sequence[str]) -> Iterator[Row]:
    for number, line in enumerate(io.TextIOWrapper(file, encoding="utf-8-sig"), 1):
        if not line.strip():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise SourceError(
                f"{shown(source)}, line {number}: got {scrubbed(line)[:40]}, expected an object with a uri"
            )
        # Later lines may leave out what they have no value for, so only the first one shows the columns.
        if number == 1:
            _check(source, list(row), columns)
        yield row


class Table:
    """Tables of URIs, here or in a store."""

    schemes = ()
    has_ranges = False
    shape: Shape = "list"

    def matches(self, source: str) -> bool:
        """Return whether it is named as a table, and is neither a folder nor a glob."""
        if not is_table(split_url(source).path if scheme(source) in ("http", "https") else source):
            return False
        if not is_local(source):
            return True
        path = local_path(source)
        # A folder may be called music.csv, and a glob may end in .csv.
        return not os.path.isdir(path) and (os.path.lexists(path) or not WILDCARDS.search(path))

    def list(self, source: str, skipped: Counter[str]) -> Iterator[TrackRef]:
        """Yield a track for each row."""
        if is_local(source) and not os.path.lexists(local_path(source)):
            raise missing(local_path(source))
        return list_table(source)

    def labelled(self, source: str, label_by: str | None, columns: Sequence[str]) -> LabelledRows | None:
        """Return the rows; labels are in ``label_by``, or in a column with a usual name."""
        if label_by is None:
            first = next(iter(list_rows(source, ["*"])), None)
            names = [name for name in LABEL_COLUMNS if first is not None and name in first[1]]
            label_by = only_label(names[:1], source, f"column named {', '.join(LABEL_COLUMNS)}")
            columns = [*columns, label_by]
        return LabelledRows(list_rows(source, columns), label_by)

    def read(self, ref: TrackRef, limits: ReadLimits) -> bytes:
        """Refuse: rows name objects of other kinds."""
        raise FetchError(f"{shown(ref.uri)} is a table, no object", code="not_found")
