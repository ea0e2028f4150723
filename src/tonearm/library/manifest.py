"""The manifest: every listed track, one row each, as Parquet parts written while the sources are still being read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow.fs import FileSelector, FileSystem, FileType

from tonearm.errors import SourceError
from tonearm.library import schema, stores
from tonearm.library.sources import ListingCounts, TrackRef, list_tracks, track_key

PART_ROWS = 50_000
# Written last; a manifest without it was cut off, and is written again.
MARKER = "_manifest.json"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a manifest holds. ``digest`` depends on the set of keys alone, not on their order."""

    num_tracks: int
    num_bytes: int
    skipped: Mapping[str, int]
    parts: tuple[str, ...]
    digest: str


def write_manifest(
    sources: Sequence[str], folder: str, *, limit: int | None = None, progress: Callable[[int], None] | None = None
) -> Manifest:
    """List ``sources`` into ``folder``, replacing what it held.

    Each object is listed once, however many sources name it. Two objects whose keys collide get keys of their own.

    Args:
        folder: a local path or URL.
        progress: told the number of tracks after each part.

    Raises:
        SourceError: a source cannot be read, or there is no audio in any.
        DestinationError: ``folder`` cannot be written.
    """
    counts = ListingCounts()
    filesystem, path = stores.arrow_filesystem(folder)
    keys: list[NDArray[np.int64]] = []
    rows = _checked(list_tracks(sources, limit=limit, counts=counts), sources, counts)
    with stores.writing(folder):
        _clear(filesystem, path)
        for number, refs in enumerate(_chunks(rows)):
            table = to_table(refs)
            keys.append(table["track_key"].to_numpy())
            pq.write_table(table, posixpath.join(path, _part(number)), filesystem=filesystem, compression="zstd")
            if progress is not None:
                progress(counts.num_tracks)
    num_parts = len(keys)
    unique = _settle(filesystem, path, num_parts, np.concatenate(keys))
    manifest = Manifest(
        num_tracks=len(unique),
        num_bytes=counts.num_bytes,
        skipped=dict(counts.skipped.most_common()),
        parts=tuple(posixpath.join(folder.rstrip("/"), _part(number)) for number in range(num_parts)),
        digest=hashlib.sha256(unique.tobytes()).hexdigest()[:16],
    )
    stores.write_text(posixpath.join(folder.rstrip("/"), MARKER), json.dumps(dataclasses.asdict(manifest), indent=1))
    return manifest


def read_manifest(folder: str) -> Manifest:
    """Return the finished manifest in ``folder``.

    Raises:
        SourceError: there is none, or it was cut off.
    """
    try:
        values: dict[str, Any] = json.loads(stores.read_bytes(posixpath.join(folder.rstrip("/"), MARKER)))
    except FileNotFoundError:
        raise SourceError(f"no finished manifest in {folder}; run tonearm tag with its sources again") from None
    return Manifest(**{**values, "parts": tuple(values["parts"])})


def read_keys(folder: str) -> NDArray[np.int64]:
    """Return the keys of a finished manifest, int64 [tracks], sorted."""
    manifest = read_manifest(folder)
    keys = []
    for part in manifest.parts:
        filesystem, path = stores.arrow_filesystem(part)
        keys.append(pq.read_table(path, columns=["track_key"], filesystem=filesystem, partitioning=None)["track_key"].to_numpy())
    return np.sort(np.concatenate(keys))


def to_table(refs: Sequence[TrackRef]) -> pa.Table:
    """Return refs as a table of ``schema.MANIFEST``."""
    columns = [pa.array([getattr(ref, field.name) for ref in refs], field.type) for field in schema.MANIFEST]
    return pa.Table.from_arrays(columns, schema=schema.MANIFEST)


def _part(number: int) -> str:
    return f"part-{number:05d}.parquet"


def _clear(filesystem: FileSystem, path: str) -> None:
    for entry in filesystem.get_file_info(FileSelector(path, allow_not_found=True)):
        if entry.type == FileType.File:
            filesystem.delete_file(entry.path)
    filesystem.create_dir(path, recursive=True)


def _chunks(refs: Iterator[TrackRef]) -> Iterator[list[TrackRef]]:
    chunk: list[TrackRef] = []
    for ref in refs:
        chunk.append(ref)
        if len(chunk) >= PART_ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _checked(refs: Iterator[TrackRef], sources: Sequence[str], counts: ListingCounts) -> Iterator[TrackRef]:
    yield from refs
    if not counts.num_tracks:
        seen = ", ".join(f"{count} {kind or 'without extension'}" for kind, count in counts.skipped.most_common(5))
        where = ", ".join(sources)
        raise SourceError(f"no audio in {where}: {seen + ' skipped' if seen else 'it is empty'}; expected mp3, flac, wav, ogg ...")


def _settle(filesystem: FileSystem, path: str, num_parts: int, keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave one row an object and one key a row; return the sorted keys."""
    unique, counts = np.unique(keys, return_counts=True)
    repeated = {int(key) for key in unique[counts > 1]}
    if not repeated:
        return unique
    taken = {int(key) for key in unique} - repeated
    owners: dict[int, tuple[Any, ...]] = {}
    settled = []
    for number in range(num_parts):
        part = posixpath.join(path, _part(number))
        table = pq.read_table(part, filesystem=filesystem, partitioning=None)
        rows = [row for row in map(_Settler(repeated, taken, owners), table.to_pylist()) if row is not None]
        settled.append(np.array([row["track_key"] for row in rows], np.int64))
        pq.write_table(pa.Table.from_pylist(rows, schema.MANIFEST), part, filesystem=filesystem, compression="zstd")
    return np.unique(np.concatenate(settled))


class _Settler:
    """Keeps the first row of each object; gives a second object with the same key another one."""

    def __init__(self, repeated: set[int], taken: set[int], owners: dict[int, tuple[Any, ...]]) -> None:
        self.repeated, self.taken, self.owners = repeated, taken, owners

    def __call__(self, row: dict[str, Any]) -> dict[str, Any] | None:
        if row["track_key"] not in self.repeated:
            return row
        version = (row["uri"], row["size_bytes"], row["etag"], row["modified"])
        salt, key = 0, row["track_key"]
        while key in self.taken or self.owners.get(key, version) != version:
            salt += 1
            key = track_key(*version, salt=salt)
        if key in self.owners:
            return None
        self.owners[key] = version
        return {**row, "track_key": key}
