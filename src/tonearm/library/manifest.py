"""The manifest: every listed track, one row each, as Parquet parts written while the sources are still being read.

A folder holds ``part-NNNNN-TOKEN.parquet`` and ``_manifest.json``, the marker, which names its parts and is written
last. Parts that no marker names are what a killed listing left; the next one removes them. Until then the manifest
before stays whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import posixpath
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tonearm.errors import SourceError
from tonearm.library import schema, stores, track_ref
from tonearm.library.sources import ListingCounts, list_tracks
from tonearm.library.track_ref import TrackRef
from tonearm.library.uris import is_local, local_path, shown

PART_ROWS, BATCH_ROWS = 50_000, 2_000
MARKER = "_manifest.json"
KEY = "track_key"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a finished manifest holds.

    Attributes:
        num_bytes: of the tracks whose size the source tells.
        skipped: files that are not audio, by extension, the most frequent first.
        parts: the paths or URLs of its Parquet files.
        digest: 16 hex digits of the set of keys, whatever their order.
        path: its folder.
    """

    num_tracks: int
    num_bytes: int
    skipped: Mapping[str, int]
    parts: tuple[str, ...]
    digest: str
    path: str


def write_manifest(
    sources: Sequence[str], folder: str, *, limit: int | None = None, progress: Callable[[int], None] | None = None
) -> Manifest:
    """List ``sources`` into ``folder``, replacing the manifest there once the new one is whole.

    Each object is listed once, however many sources name it, and no two have the same key.

    Args:
        sources: see ``list_tracks``.
        folder: a local path or a URL.
        progress: told the number of tracks so far, every 2,000.

    Raises:
        SourceError: a source cannot be read, or there is no audio in any.
        DestinationError: ``folder`` cannot be written.
    """
    counts = ListingCounts()
    refs = list_tracks(sources, limit=limit, counts=counts)
    parts, keys = _write_parts(refs, folder, lambda: progress(counts.num_tracks) if progress else None)
    return _finish(folder, parts, keys, num_bytes=counts.num_bytes, skipped=dict(counts.skipped.most_common()))


def _write_parts(
    refs: Iterable[TrackRef], folder: str, progress: Callable[[], None]
) -> tuple[list[str], list[NDArray[np.int64]]]:
    token = uuid.uuid4().hex[:8]
    folder = _absolute(folder)
    parts: list[str] = []
    keys: list[NDArray[np.int64]] = []
    batches = _batches(iter(refs), progress)
    while first := next(batches, None):
        table = pa.Table.from_batches([first, *itertools.islice(batches, PART_ROWS // BATCH_ROWS - 1)])
        parts.append(posixpath.join(folder, f"part-{len(parts):05d}-{token}.parquet"))
        keys.append(table[KEY].to_numpy())
        stores.write_table(parts[-1], table)
    return parts, keys


def _finish(
    folder: str, parts: list[str], keys: list[NDArray[np.int64]], *, num_bytes: int, skipped: Mapping[str, int]
) -> Manifest:
    folder = _absolute(folder)
    settled = _settle(parts, keys)
    digest = hashlib.sha256(settled.astype("<i8").tobytes()).hexdigest()[:16]
    manifest = Manifest(len(settled), num_bytes, skipped, tuple(parts), digest, folder)
    marker = dataclasses.asdict(manifest) | {"parts": [posixpath.basename(part) for part in parts]}
    del marker["path"]
    stores.write_text(posixpath.join(folder, MARKER), json.dumps(marker, indent=1))
    for name in stores.list_files(folder):
        if name.endswith(".parquet") and name not in marker["parts"]:
            stores.delete(posixpath.join(folder, name))
    return manifest


def read_manifest(folder: str) -> Manifest:
    """Return the finished manifest in ``folder``.

    Raises:
        SourceError: there is none, or one of its parts is gone.
    """
    folder = _absolute(folder)
    try:
        values: dict[str, Any] = json.loads(stores.read_bytes(posixpath.join(folder, MARKER)))
    except (FileNotFoundError, json.JSONDecodeError):
        raise SourceError(f"no finished manifest in {shown(folder)}; run tonearm tag with its sources again") from None
    gone = set(values["parts"]) - set(stores.list_files(folder))
    if gone:
        raise SourceError(f"the manifest in {shown(folder)} lacks {min(gone)}; run tonearm tag with its sources again")
    parts = tuple(posixpath.join(folder, name) for name in values["parts"])
    return Manifest(**{**values, "parts": parts, "path": folder})


def read_keys(folder: str) -> NDArray[np.int64]:
    """Return the keys of a finished manifest, int64 [tracks], sorted.

    Raises:
        SourceError: there is no finished manifest.
    """
    keys = [stores.read_table(part, [KEY])[KEY].to_numpy() for part in read_manifest(folder).parts]
    return np.sort(np.concatenate(keys)) if keys else np.empty(0, np.int64)


def read_tracks(folder: str) -> Iterator[TrackRef]:
    """Yield the tracks of a finished manifest.

    Raises:
        SourceError: there is no finished manifest.
    """
    for part in read_manifest(folder).parts:
        for batch in stores.read_table(part).to_batches(BATCH_ROWS):
            yield from (TrackRef(**row) for row in batch.to_pylist())


def to_table(refs: Sequence[TrackRef]) -> pa.Table:
    """Return refs as a table of ``schema.MANIFEST``."""
    return pa.Table.from_batches([_to_batch(refs)])


def _to_batch(refs: Sequence[TrackRef]) -> pa.RecordBatch:
    columns = [pa.array([getattr(ref, field.name) for ref in refs], field.type) for field in schema.MANIFEST]
    return pa.RecordBatch.from_arrays(columns, schema=schema.MANIFEST)


def _batches(refs: Iterator[TrackRef], progress: Callable[[], None]) -> Iterator[pa.RecordBatch]:
    while chunk := list(itertools.islice(refs, BATCH_ROWS)):
        yield _to_batch(chunk)
        progress()


def _absolute(folder: str) -> str:
    return local_path(folder) if is_local(folder) else folder.rstrip("/")


def _settle(parts: list[str], keys: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Give objects that share a key keys of their own; return all keys, sorted.

    Every one of them gets another key, so which is listed first does not matter, and a key on which two objects once
    met is never taken for the one that was tagged under it before.
    """
    found = np.sort(np.concatenate(keys)) if keys else np.empty(0, np.int64)
    repeated = np.unique(found[1:][found[1:] == found[:-1]])
    if not len(repeated):
        return found
    meeting = [TrackRef(**row) for part in parts for row in _sharing(stores.read_table(part), repeated).to_pylist()]
    taken = set(found.tolist())
    own: dict[str, int] = {}
    for ref in sorted(meeting, key=lambda ref: ref.uri):
        own[ref.uri] = next(
            key
            for salt in itertools.count(1)
            if (key := track_ref.track_key(ref.uri, ref.size_bytes, ref.etag, ref.modified, salt)) not in taken
        )
        taken.add(own[ref.uri])
    for number, part in enumerate(parts):
        if not np.isin(keys[number], repeated).any():
            continue
        table = stores.read_table(part)
        pairs = zip(table["uri"].to_pylist(), table[KEY].to_pylist(), strict=True)
        keys[number] = np.array([own.get(uri, key) for uri, key in pairs], np.int64)
        place = table.schema.get_field_index(KEY)
        stores.write_table(part, table.set_column(place, schema.MANIFEST.field(KEY), pa.array(keys[number])))
    return np.sort(np.concatenate(keys))


def _sharing(table: pa.Table, repeated: NDArray[np.int64]) -> pa.Table:
    return table.filter(pc.is_in(table[KEY], pa.array(repeated)))
