"""The Parquet files of a manifest: written in parts that memory holds, and read with one line for each fault."""

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
from tonearm.runs.places import KEY as KEY
from tonearm.runs.rows import schema
from tonearm.sources import track_ref
from tonearm.sources.track_ref import TrackRef
from tonearm.storage import filesystems
from tonearm.storage.uris import shown

PART_ROWS, BATCH_ROWS = 50_000, 2_000
URIS = pa.schema([pa.field("uri", pa.string(), nullable=False)])

Digests = NDArray[np.bytes_]


class Unreadable(SourceError):
    """A file that the marker names is gone or damaged; it may be that another manifest is there now."""


@dataclasses.dataclass
class Part:
    """A file of listed tracks.

    Attributes:
        keys: int64 [rows].
        is_new: whether this run has written it, so that no marker names it yet and it may be written again.
    """

    name: str
    keys: NDArray[np.int64]
    num_bytes: int
    is_new: bool


class Folder:
    """Where a manifest is, and the names of the files that this run writes there: never one that was there before."""

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
            Unreadable: it is gone, or no Parquet file with these columns.
            DestinationError: the store refused.
        """
        data: bytes | None = None
        with filesystems.reading(self.url(name)), contextlib.suppress(FileNotFoundError):
            data = filesystems.read_bytes(self.url(name))
        if data is None:
            raise Unreadable(f"the manifest in {shown(self.path)} lacks {name}; run tonearm tag with its sources again")
        wanted = schema.MANIFEST.names if columns is None else columns
        try:
            table = pq.read_table(io.BytesIO(data), columns=list(wanted))
        except (pa.ArrowException, OSError):
            table = None
        if table is None or table.column_names != list(wanted):
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
        self._held: list[pa.Table] = []
        self._num_held = 0

    def add(self, table: pa.Table) -> None:
        """Take rows; write them once there are enough."""
        self._held.append(table)
        self._num_held += table.num_rows
        while self._num_held >= PART_ROWS:
            self._write(PART_ROWS)

    def close(self) -> list[Part]:
        """Write what is held, and return the parts."""
        if self._num_held:
            self._write(self._num_held)
        return self.parts

    def _write(self, num_rows: int) -> None:
        held = pa.concat_tables(self._held)
        table, rest = held.slice(0, num_rows), held.slice(num_rows)
        self._held, self._num_held = [rest] if rest.num_rows else [], rest.num_rows
        self.parts.append(Part(self._folder.write(table), table[KEY].to_numpy(), num_bytes(table), True))


class UriWriter:
    """Writes URIs as files of ``PART_ROWS``, each once if they come sorted out."""

    def __init__(self, folder: Folder) -> None:
        self.names: list[str] = []
        self._folder = folder
        self._held: list[str] = []

    def add(self, uri: str) -> None:
        """Take a URI; write those held once there are enough."""
        self._held.append(uri)
        if len(self._held) >= PART_ROWS:
            self._write()

    def close(self) -> list[str]:
        """Write what is held, and return the names of the files."""
        if self._held:
            self._write()
        return self.names

    def _write(self) -> None:
        self.names.append(self._folder.write(pa.table([pa.array(self._held, pa.string())], schema=URIS), "covered"))
        self._held = []


def to_batches(refs: Iterator[TrackRef], progress: Callable[[], None]) -> Iterator[pa.RecordBatch]:
    """Yield refs ``BATCH_ROWS`` at a time as rows of ``schema.MANIFEST``; ``progress`` is called after each."""
    while chunk := list(itertools.islice(refs, BATCH_ROWS)):
        yield to_batch(chunk)
        progress()


def to_batch(refs: Sequence[TrackRef]) -> pa.RecordBatch:
    """Return refs as rows of ``schema.MANIFEST``."""
    columns = [pa.array([getattr(ref, field.name) for ref in refs], field.type) for field in schema.MANIFEST]
    return pa.RecordBatch.from_arrays(columns, schema=schema.MANIFEST)


def num_bytes(table: pa.Table) -> int:
    """Return the bytes of the tracks whose size is known."""
    return int(pc.sum(table["size_bytes"]).as_py() or 0)


def digests(uris: pa.ChunkedArray) -> Digests:
    """Return 16 bytes for each URI."""
    each = (hashlib.blake2b(uri.encode(), digest_size=16).digest() for uri in uris.to_pylist())
    return np.frombuffer(b"".join(each), "S16")


def settle(folder: Folder, parts: Sequence[Part], shared: Sequence[int]) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Give objects that share a key keys of their own; return all keys, sorted, and the keys that none may have.

    Every one of them gets another key, so which is listed first does not matter, and a key on which two objects once
    met is never taken for the one that was tagged under it before.

    Args:
        parts: of all that is listed; those that change are replaced.
        shared: keys that none may have since earlier listings.
    """
    found = _sorted(parts)
    again = found[1:][found[1:] == found[:-1]]
    repeated = np.unique(np.concatenate([again, np.array(shared, np.int64)]))
    met = tuple(repeated.tolist())
    if not len(repeated) or not np.isin(repeated, found).any():
        return found, met
    holding = [part for part in parts if np.isin(part.keys, repeated).any()]
    meeting: list[TrackRef] = []
    for part in holding:
        rows = folder.read(part.name)
        rows = rows.filter(pc.is_in(rows[KEY], pa.array(repeated)))
        meeting += [TrackRef(**row) for row in rows.to_pylist()]
    taken = {*found.tolist(), *met}
    own: dict[str, int] = {}
    for ref in sorted(meeting, key=lambda ref: ref.uri):
        own[ref.uri] = next(
            key
            for salt in itertools.count(1)
            if (key := track_ref.track_key(ref.uri, ref.size_bytes, ref.etag, ref.modified, salt)) not in taken
        )
        taken.add(own[ref.uri])
    for part in holding:
        table = folder.read(part.name)
        pairs = zip(table["uri"].to_pylist(), table[KEY].to_pylist(), strict=True)
        part.keys = np.array([own.get(uri, key) for uri, key in pairs], np.int64)
        place = table.schema.get_field_index(KEY)
        table = table.set_column(place, schema.MANIFEST.field(KEY), pa.array(part.keys))
        if part.is_new:
            filesystems.write_table(folder.url(part.name), table)
        else:
            part.name, part.is_new = folder.write(table), True
    return _sorted(parts), met


def _sorted(parts: Sequence[Part]) -> NDArray[np.int64]:
    return np.sort(np.concatenate([part.keys for part in parts])) if parts else np.empty(0, np.int64)
