"""What one run must do, what is already done, and whether every track got its row.

A destination holds::

    manifest/            the listed tracks, one row each
    tracks/*.parquet     the finished tracks, one row each
    _checkpoint/FP/      Ray Data's marks, one per file of tracks/; FP is the fingerprint of models and settings
    _checkpoint/FP.json  what the fingerprint stands for
    runs/RUN.json        what one invocation did
    report.html

Ray Data writes each file in two phases: a *pending* mark, the file, then the mark renamed. A track is done when a file
without a pending mark holds its row; everything else is done again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow.fs import FileSelector, FileSystem, FileType

from tonearm.errors import DestinationError
from tonearm.library import stores
from tonearm.library.uris import local_path, shown, split_bucket

PENDING_SUFFIX = ".pending.parquet"
KEY = "track_key"
WRITABLE = ("s3", "gs", "az", "memory")
READERS = 16


@dataclasses.dataclass(frozen=True)
class Destination:
    """The places below one ``--out``."""

    url: str

    @classmethod
    def of(cls, url: str) -> Destination:
        """Return the destination at ``url``, with a local path made absolute.

        Raises:
            DestinationError: a place that cannot hold one, such as ``https://`` or ``s3://`` without a bucket.
        """
        if stores.is_local(url):
            return cls(local_path(url))
        if stores.scheme(url) not in WRITABLE:
            raise DestinationError(f"got --out {shown(url)}, expected a folder, s3://, gs:// or az://BUCKET/PREFIX")
        if not split_bucket(url)[0]:
            raise DestinationError(f"got --out {url}, expected a bucket: {stores.scheme(url)}://BUCKET/PREFIX")
        return cls(url)

    def join(self, *parts: str) -> str:
        return posixpath.join(self.url.rstrip("/") or "/", *parts)

    @property
    def manifest(self) -> str:
        return self.join("manifest")

    @property
    def tracks(self) -> str:
        return self.join("tracks")

    @property
    def report(self) -> str:
        return self.join("report.html")

    def checkpoint(self, fingerprint: str) -> str:
        return self.join("_checkpoint", fingerprint)

    def run(self, run_id: str) -> str:
        return self.join("runs", f"{run_id}.json")


@dataclasses.dataclass(frozen=True)
class Audit:
    """What ``tracks/`` holds for the tracks of one manifest."""

    num_listed: int
    num_ok: int
    num_error: int
    errors_by_code: dict[str, int]
    audio_s: float
    scored_s: float
    num_missing: int
    num_doubled: int

    @property
    def num_written(self) -> int:
        return self.num_ok + self.num_error

    @property
    def is_exact(self) -> bool:
        """Whether every listed track has exactly one row."""
        return self.num_missing == 0 and self.num_doubled == 0

    @property
    def error_rate(self) -> float:
        return self.num_error / self.num_listed if self.num_listed else 0.0


def fingerprint(facts: Mapping[str, Any]) -> str:
    """Return 16 hex digits that change when any of ``facts`` does."""
    canonical = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def claim(destination: Destination, facts: Mapping[str, Any]) -> str:
    """Return the fingerprint of ``facts`` and write it down at the destination.

    Raises:
        DestinationError: the destination holds rows made with other models or settings; says which differ.
    """
    own = fingerprint(facts)
    filesystem, folder = stores.arrow_filesystem(destination.join("_checkpoint"))
    for entry in filesystem.get_file_info(FileSelector(folder, allow_not_found=True)):
        name = posixpath.basename(entry.path)
        if entry.type != FileType.File or not name.endswith(".json") or name == f"{own}.json":
            continue
        other = name.removesuffix(".json")
        if not _has_files(filesystem, posixpath.join(folder, other)):
            continue
        theirs = json.loads(stores.read_bytes(destination.join("_checkpoint", name)))
        changed = [
            f"{key} (there {theirs.get(key)!r}, now {facts.get(key)!r})"
            for key in sorted({*theirs, *facts})
            if json.dumps(theirs.get(key), default=str) != json.dumps(facts.get(key), default=str)
        ]
        raise DestinationError(
            f"{destination.url} holds tracks tagged with other settings: {'; '.join(changed)}; "
            "give the same settings to add to it, or another --out"
        )
    stores.write_text(destination.join("_checkpoint", f"{own}.json"), json.dumps(dict(facts), indent=1, default=str))
    return own


def _has_files(filesystem: FileSystem, folder: str) -> bool:
    entries = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
    return any(entry.type == FileType.File and not entry.path.endswith(PENDING_SUFFIX) for entry in entries)


def track_files(destination: Destination, own: str) -> list[str]:
    """Return the paths of the finished files in ``tracks/``, those with a pending mark left out."""
    filesystem, folder = stores.arrow_filesystem(destination.tracks)
    _, marks = stores.arrow_filesystem(destination.checkpoint(own))
    pending = {
        posixpath.basename(entry.path).removesuffix(PENDING_SUFFIX)
        for entry in filesystem.get_file_info(FileSelector(marks, allow_not_found=True))
        if entry.path.endswith(PENDING_SUFFIX)
    }
    paths = []
    for entry in filesystem.get_file_info(FileSelector(folder, allow_not_found=True)):
        name = posixpath.basename(entry.path)
        if entry.type == FileType.File and name.endswith(".parquet") and not _is_pending(name, pending):
            paths.append(entry.path)
    return sorted(paths)


def _is_pending(name: str, pending: set[str]) -> bool:
    return name.startswith(tuple(pending))


def scan_tracks(destination: Destination, own: str, columns: list[str]) -> Iterator[pa.Table]:
    """Yield the finished rows file by file.

    Raises:
        DestinationError: a file that is not Parquet, named.
    """
    filesystem, _ = stores.arrow_filesystem(destination.tracks)

    def read(path: str) -> pa.Table:
        try:
            return pq.read_table(path, columns=columns, filesystem=filesystem, partitioning=None, use_threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise DestinationError(
                f"{path} cannot be read ({error}); delete that file and run again: its tracks will be tagged anew"
            ) from None

    paths = track_files(destination, own)
    with ThreadPoolExecutor(READERS, thread_name_prefix="tracks") as pool:  # a store's latency, many times over
        for first in range(0, len(paths), 16 * READERS):
            yield from pool.map(read, paths[first : first + 16 * READERS])


def done_keys(destination: Destination, own: str) -> NDArray[np.int64]:
    """Return the sorted keys of the tracks that have their row."""
    parts = [table[KEY].to_numpy() for table in scan_tracks(destination, own, [KEY])]
    return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)


def write_todo(parts: list[str], done: NDArray[np.int64], folder: str) -> int:
    """Write the manifest rows whose key is not in ``done`` to ``folder``; return how many.

    Args:
        parts: the manifest's Parquet files.
        done: sorted keys.
        folder: a URL; its earlier content is replaced.
    """
    filesystem, target = stores.arrow_filesystem(folder)
    if filesystem.get_file_info(target).type == FileType.Directory:
        filesystem.delete_dir(target)
    filesystem.create_dir(target, recursive=True)
    num_todo = 0
    for number, part in enumerate(parts):
        source, path = stores.arrow_filesystem(part)
        table = pq.read_table(path, filesystem=source, partitioning=None)
        table = table.filter(pa.array(~np.isin(table[KEY].to_numpy(), done, assume_unique=False)))
        if table.num_rows:
            num_todo += table.num_rows
            pq.write_table(table, posixpath.join(target, f"part-{number:05d}.parquet"), filesystem=filesystem)
    return num_todo


def drop_failed(destination: Destination, own: str) -> int:
    """Remove the rows of failed tracks, so that the next run takes them up again; return how many.

    Each file is replaced by one rename (one put on object storage), so a crash leaves every row in place or dropped.
    """
    filesystem, _ = stores.arrow_filesystem(destination.tracks)
    num_dropped = 0
    for path in track_files(destination, own):
        table = pq.read_table(path, filesystem=filesystem, partitioning=None)
        kept = table.filter(pc.equal(table["status"], "ok"))
        if kept.num_rows == table.num_rows:
            continue
        num_dropped += table.num_rows - kept.num_rows
        if kept.num_rows == 0:
            filesystem.delete_file(path)
            continue
        partial = path + ".partial"
        pq.write_table(kept, partial, filesystem=filesystem)
        filesystem.move(partial, path)
    return num_dropped


def audit(destination: Destination, own: str, listed: NDArray[np.int64]) -> Audit:
    """Count the rows of ``tracks/`` against the manifest's keys.

    Args:
        listed: int64 [tracks], the manifest's keys.
    """
    listed = np.sort(listed)
    seen = np.zeros(len(listed), np.int32)
    num_ok, audio_s, scored_s = 0, 0.0, 0.0
    codes: dict[str, int] = {}
    columns = [KEY, "status", "error_code", "duration_s", "coverage"]
    for table in scan_tracks(destination, own, columns):
        keys = table[KEY].to_numpy()
        places = np.searchsorted(listed, keys)
        known = (
            (places < len(listed)) & (listed[np.minimum(places, len(listed) - 1)] == keys)
            if len(listed)
            else np.zeros(len(keys), bool)
        )
        np.add.at(seen, places[known], 1)
        table = table.filter(pa.array(known))
        is_ok = pc.equal(table["status"], "ok")
        num_ok += pc.sum(is_ok).as_py() or 0
        good = table.filter(is_ok)
        audio_s += pc.sum(good["duration_s"]).as_py() or 0.0
        scored_s += pc.sum(pc.multiply(good["duration_s"], pc.cast(good["coverage"], pa.float64()))).as_py() or 0.0
        for entry in pc.value_counts(table.filter(pc.invert(is_ok))["error_code"]).to_pylist():
            codes[entry["values"]] = codes.get(entry["values"], 0) + entry["counts"]
    return Audit(
        num_listed=len(listed),
        num_ok=int(num_ok),
        num_error=sum(codes.values()),
        errors_by_code=dict(sorted(codes.items(), key=lambda item: -item[1])),
        audio_s=float(audio_s),
        scored_s=float(scored_s),
        num_missing=int(np.count_nonzero(seen == 0)),
        num_doubled=int(np.count_nonzero(seen > 1)),
    )
