"""Write and read the Parquet files of a manifest, in parts that fit in memory; a damaged file is a one-line error."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
import posixpath
import uuid
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tonearm.errors import SourceError
from tonearm.runs.places import KEY
from tonearm.runs.rows import schema
from tonearm.sources import track_ref
from tonearm.sources.track_ref import TrackRef
from tonearm.storage import filesystems
from tonearm.storage.uris import shown

PART_ROWS, BATCH_ROWS = 50_000, 2_000
URIS = pa.schema([pa.field("uri", pa.string(), nullable=False)])

Digests = NDArray[np.bytes_]


class Unreadable(SourceError):
    """A file that the marker names is gone or damaged; possibly the manifest has just been replaced."""


@dataclasses.dataclass
class Part:
    """A file of listed tracks.

    Attributes:
        keys: int64 [rows].
        is_new: whether this run has written it: no marker names it yet, so it may be overwritten.
    """

    name: str
    keys: NDArray[np.int64]
    num_bytes: int
    is_new: bool


class Folder:
    """A manifest's folder, and the names of the files that this run writes there, none of which old files have."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.written: set[str] = set()
        self._token = uuid.uuid4().hex[:8]
        self._numbers = {kind: itertools.count() for kind in ("part", "covered")}

    def url(self, name: str) -> str:
        return posixpath.join(self.path, name)

    def write(self, table: pa.Table, kind: str = "part") -> str:
        """Write a new file and return its name."""
        name = f"{kind}-{next(self._numbers[kind]):05d}-{self._token}.parquet"
        self.written.add(name)
        filesystems.write_table(self.url(name), table)
        return name

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of a file.

        Raises:
            Unreadable: it is gone, or it is not a Parquet file with these columns.
            DestinationError: the store cannot be read.
        """
        data: bytes | None = None
        with filesystems.reading(self.url(name)), contextlib.suppress(FileNotFoundError):
            data = filesystems.read_bytes(self.url(name))
        if data is None:
            raise Unreadable(f"the manifest in {shown(self.path)} lacks {name}; run tonearm tag with its sources again")
        column_names = schema.MANIFEST.names if columns is None else columns
        try:
            table = pq.read_table(io.BytesIO(data), columns=list(column_names))
        except (pa.ArrowException, OSError):
            table = None
        if table is None or table.column_names != list(column_names):
            raise Unreadable(
                f"{shown(self.url(name))} is damaged, expected a part of a manifest; run tonearm tag with its sources "
                "again"
            )
        return table


class PartWriter:
    """Writes rows of ``schema.MANIFEST`` as parts of ``PART_ROWS``."""

    def __init__(self, folder: Folder) -> None:
        self.parts: list[Part] = []
        self._folder = folder
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0

    def add(self, table: pa.Table) -> None:
        """Add rows; write a part once there are enough."""
        self._waiting.append(table)
        self._num_waiting += table.num_rows
        while self._num_waiting >= PART_ROWS:
            self._write(PART_ROWS)

    def close(self) -> list[Part]:
        """Write the rows that are left, and return all parts."""
        if self._num_waiting:
            self._write(self._num_waiting)
        return self.parts

    def _write(self, num_rows: int) -> None:
        waiting = pa.concat_tables(self._waiting)
        table, rest = waiting.slice(0, num_rows), waiting.slice(num_rows)
        self._waiting, self._num_waiting = [rest] if rest.num_rows else [], rest.num_rows
        self.parts.append(Part(self._folder.write(table), table[KEY].to_numpy(), num_bytes(table), True))


class UriWriter:
    """Writes URIs as files of ``PART_ROWS``; the caller gives no URI twice."""

    def __init__(self, folder: Folder) -> None:
        self.names: list[str] = []
        self._folder = folder
        self._waiting: list[str] = []

    def add(self, uri: str) -> None:
        """Add a URI; write a file once there are enough."""
        self._waiting.append(uri)
        if len(self._waiting) >= PART_ROWS:
            self._write()

    def close(self) -> list[str]:
        """Write the URIs that are left, and return the names of all files."""
        if self._waiting:
            self._write()
        return self.names

    def _write(self) -> None:
        self.names.append(self._folder.write(pa.table([pa.array(self._waiting, pa.string())], schema=URIS), "covered"))
        self._waiting = []


def to_batches(refs: Iterator[TrackRef], progress: Callable[[], None]) -> Iterator[pa.RecordBatch]:
    """Yield refs as batches of ``BATCH_ROWS`` rows of ``schema.MANIFEST``; call ``progress`` after each batch."""
    while chunk := list(itertools.islice(refs, BATCH_ROWS)):
        yield to_batch(chunk)
        progress()


def to_batch(refs: Sequence[TrackRef]) -> pa.RecordBatch:
    """Return refs as rows of ``schema.MANIFEST``."""
    columns = [pa.array([getattr(ref, field.name) for ref in refs], field.type) for field in schema.MANIFEST]
    return pa.RecordBatch.from_arrays(columns, schema=schema.MANIFEST)


def to_refs(table: pa.Table) -> Iterator[TrackRef]:
    """Yield the tracks in rows of ``schema.MANIFEST``."""
    for batch in table.to_batches(BATCH_ROWS):
        yield from (TrackRef(**row) for row in batch.to_pylist())


def num_bytes(table: pa.Table) -> int:
    """Return the summed bytes of the tracks whose size is known."""
    return int(pc.sum(table["size_bytes"]).as_py() or 0)


def digests(uris: pa.ChunkedArray) -> Digests:
    """Return a 16-byte digest for each URI: sets of millions of URIs are compared by these."""
    uri_digests = (hashlib.blake2b(uri.encode(), digest_size=16).digest() for uri in uris.to_pylist())
    return np.frombuffer(b"".join(uri_digests), "S16")


def settle(folder: Folder, parts: Sequence[Part], shared: Sequence[int]) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Give new keys to objects that share one; return all keys, sorted, and the keys that no object may have.

    Keys are hashes, so two objects may get the same one. Both then get new keys, so that the result does not depend on
    which was listed first. The shared key is never used again: a row that has it could be of either object.

    Args:
        parts: all listed parts; those that change are replaced.
        shared: keys that earlier listings have excluded in this way.
    """
    keys = _sorted_keys(parts)
    doubled = keys[1:][keys[1:] == keys[:-1]]
    shared_keys = np.unique(np.concatenate([doubled, np.array(shared, np.int64)]))
    all_shared = tuple(shared_keys.tolist())
    if not len(shared_keys) or not np.isin(shared_keys, keys).any():
        return keys, all_shared
    # From here on the rare case: read only the parts that have such a key.
    affected = [part for part in parts if np.isin(part.keys, shared_keys).any()]
    affected_refs: list[TrackRef] = []
    for part in affected:
        rows = folder.read(part.name)
        rows = rows.filter(pc.is_in(rows[KEY], pa.array(shared_keys)))
        affected_refs += [TrackRef(**row) for row in rows.to_pylist()]
    taken_keys = {*keys.tolist(), *all_shared}
    new_keys: dict[str, int] = {}
    # Sorted by URI, so that the same set of objects always gets the same keys.
    for ref in sorted(affected_refs, key=lambda ref: ref.uri):
        new_keys[ref.uri] = next(
            key
            for salt in itertools.count(1)
            if (key := track_ref.track_key(ref.uri, ref.size_bytes, ref.etag, ref.modified, salt)) not in taken_keys
        )
        taken_keys.add(new_keys[ref.uri])
    for part in affected:
        table = folder.read(part.name)
        pairs = zip(table["uri"].to_pylist(), table[KEY].to_pylist(), strict=True)
        part.keys = np.array([new_keys.get(uri, key) for uri, key in pairs], np.int64)
        key_column = table.schema.get_field_index(KEY)
        table = table.set_column(key_column, schema.MANIFEST.field(KEY), pa.array(part.keys))
        # A file that the present marker names has to stay as it is until the new marker is written.
        if part.is_new:
            filesystems.write_table(folder.url(part.name), table)
        else:
            part.name, part.is_new = folder.write(table), True
    return _sorted_keys(parts), all_shared


def _sorted_keys(parts: Sequence[Part]) -> NDArray[np.int64]:
    return np.sort(np.concatenate([part.keys for part in parts])) if parts else np.empty(0, np.int64)
