"""What one run must do, what is already done, and whether every track got its row.

A destination holds::

    manifest/            the listed tracks, one row each
    tracks/*.parquet     the finished tracks, one row each
    _checkpoint/FP/      Ray Data's marks, one per file of tracks/; FP is the fingerprint of models and settings
    _checkpoint/FP.json  what the fingerprint stands for
    _checkpoint/progress.json  how far the run under way is; see ``progress``
    runs/RUN.json        what one invocation did
    report.html

Ray Data writes each file in two phases: a *pending* mark, the file, then the mark renamed. A track is done when a file
without a pending mark holds its row; everything else is done again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow.fs import FileSelector, FileSystem, FileType

from tonearm.errors import DestinationError
from tonearm.library import finished_rows, stores, track_files
from tonearm.library.failures import READ_CODES
from tonearm.library.track_files import PENDING_SUFFIX, TrackFile
from tonearm.library.uris import local_path, shown, split_bucket

KEY = "track_key"
WRITABLE = ("s3", "gs", "az", "memory")
READERS = 16
AUDITED = [KEY, "status", "error_code", "duration_s", "coverage"]


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
    num_files: int

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
    with stores.reading(destination.url):
        _check_settings(destination, own, facts)
    stores.write_text(destination.join("_checkpoint", f"{own}.json"), json.dumps(dict(facts), indent=1, default=str))
    return own


def _check_settings(destination: Destination, own: str, facts: Mapping[str, Any]) -> None:
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


def _has_files(filesystem: FileSystem, folder: str) -> bool:
    entries = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
    return any(entry.type == FileType.File and not entry.path.endswith(PENDING_SUFFIX) for entry in entries)


def scan_tracks(
    destination: Destination,
    columns: list[str] | None,
    files: Sequence[TrackFile] | None = None,
    *,
    num_ahead: int = 16 * READERS,
) -> Iterator[tuple[TrackFile, pa.Table]]:
    """Yield the finished rows file by file; for who holds the lock, since a file that goes away meanwhile is an error.

    Args:
        columns: None for all.
        files: some of the finished files; None for all.
        num_ahead: files that are held at once; few where whole rows are read.

    Raises:
        DestinationError: a file that is not Parquet, named.
    """
    filesystem, _ = stores.arrow_filesystem(destination.tracks)

    def read(file: TrackFile) -> tuple[TrackFile, pa.Table]:
        try:
            return file, pq.read_table(
                file.path, columns=columns, filesystem=filesystem, partitioning=None, use_threads=False
            )
        except FileNotFoundError:
            raise DestinationError(
                f"{shown(destination.url)}: tracks/ changed while it was read ({file.name} is gone); run it again"
            ) from None
        except (pa.ArrowInvalid, OSError) as error:
            raise DestinationError(
                f"{file.path} cannot be read ({error}); delete that file and run `tonearm tag` again: its tracks will "
                "be tagged anew"
            ) from None

    wanted = track_files.finished(destination.url) if files is None else files
    with ThreadPoolExecutor(READERS, thread_name_prefix="tracks") as pool:  # a store's latency, many times over
        for first in range(0, len(wanted), num_ahead):
            yield from pool.map(read, wanted[first : first + num_ahead])


def done_keys(destination: Destination) -> NDArray[np.int64]:
    """Return the keys of all rows, int64 [rows], sorted; empty where nothing is done yet. Needs no lock."""
    files = finished_rows.read_finished(destination.url, [KEY], lambda table: table[KEY].to_numpy())
    return _sorted(list(files.values()))


@dataclasses.dataclass(frozen=True)
class Done:
    """The tracks that have their row.

    Attributes:
        keys: int64 [rows], sorted.
        again: keys of failed rows that this run writes anew, or that a later version of their object replaces; sorted.
        files: the files that hold a row of ``again``.
        audit: of all that stands there now.
    """

    keys: NDArray[np.int64]
    again: NDArray[np.int64]
    files: tuple[TrackFile, ...]
    audit: Audit


def find_done(
    destination: Destination, listed: NDArray[np.int64], parts: Sequence[str], *, retry_errors: bool = False
) -> Done:
    """Return what is done, and which of the failed tracks are to be tried again.

    What a store did not give may be there the next time, so it is always asked for again; what could not be decoded or
    scored is only taken up with ``retry_errors``. Rows of tracks that this manifest does not list stay as they are,
    unless it lists a later version of the same object.

    Args:
        listed: int64 [tracks], sorted, the manifest's keys.
        parts: its files.
    """
    keys, again, gone, auditor = [], [], [], _Auditor(listed)
    holding: list[tuple[TrackFile, NDArray[np.int64]]] = []
    for file, table in scan_tracks(destination, AUDITED):
        auditor.add(table)
        own, codes = table[KEY].to_numpy(), table["error_code"]
        wanted = pc.is_valid(codes) if retry_errors else pc.is_in(codes, pa.array(sorted(READ_CODES)))
        failed = own[wanted.to_numpy()]
        keys.append(own)
        if len(failed):
            is_listed = among(failed, listed)
            again.append(failed[is_listed])
            gone.append(failed[~is_listed])
            holding.append((file, failed))
    again.append(_superseded(destination, [file for file, _ in holding], _sorted(gone), parts))
    found = _sorted(again)
    files = tuple(file for file, failed in holding if among(failed, found).any())
    return Done(_sorted(keys), found, files, auditor.result())


def _superseded(
    destination: Destination, files: Sequence[TrackFile], keys: NDArray[np.int64], parts: Sequence[str]
) -> NDArray[np.int64]:
    """Return those of ``keys``, rows in ``files``, whose object the manifest lists, if under another key."""
    if not len(keys):
        return keys
    filesystem, _ = stores.arrow_filesystem(destination.tracks)
    tables = [
        pq.read_table(file.path, columns=[KEY, "uri"], filesystem=filesystem, partitioning=None) for file in files
    ]
    rows = pa.concat_tables(tables)
    rows = rows.filter(pa.array(among(rows[KEY].to_numpy(), keys)))
    is_listed = np.zeros(rows.num_rows, bool)
    for part in parts:
        uris = stores.read_table(part, ["uri"])["uri"]
        is_listed |= pc.is_in(rows["uri"], uris.combine_chunks()).to_numpy()
    return rows[KEY].to_numpy()[is_listed]


def among(values: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which ``values`` are among ``keys``, which are sorted; ``np.isin`` would sort them anew for each file."""
    if not len(keys):
        return np.zeros(len(values), bool)
    places = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
    return keys[places] == values


def _sorted(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)


@dataclasses.dataclass(frozen=True)
class TodoPart:
    """A Parquet file of manifest rows that have no row of ``tracks/`` yet."""

    url: str
    num_tracks: int


def write_todo(destination: Destination, parts: Sequence[str], done: NDArray[np.int64]) -> list[TodoPart]:
    """Return the manifest rows whose key is not in ``done``: the manifest's own parts where nothing is done.

    Args:
        parts: the manifest's Parquet files.
        done: sorted keys.
    """
    folder = destination.join("_checkpoint", "todo")
    for name in stores.list_files(folder):
        stores.delete(posixpath.join(folder, name))
    todo = []
    for number, part in enumerate(parts):
        if not len(done):
            num_tracks = pq.read_metadata(io.BytesIO(stores.read_bytes(part))).num_rows
            todo.append(TodoPart(part, num_tracks))
            continue
        table = stores.read_table(part)
        table = table.filter(pa.array(~among(table[KEY].to_numpy(), done)))
        if table.num_rows:
            url = posixpath.join(folder, f"part-{number:05d}.parquet")
            stores.write_table(url, table)
            todo.append(TodoPart(url, table.num_rows))
    return todo


def drop(destination: Destination, done: Done) -> None:
    """Remove the rows of ``done.again``, so that this run can write them anew.

    Each file is replaced in one step, so a crash leaves every row in place or dropped.
    """
    filesystem, _ = stores.arrow_filesystem(destination.tracks)
    for file in done.files:
        table = pq.read_table(file.path, filesystem=filesystem, partitioning=None)
        kept = table.filter(pa.array(~among(table[KEY].to_numpy(), done.again)))
        url = destination.join("tracks", file.name)
        if kept.num_rows == 0:
            stores.delete(url)
            continue
        stores.write_table(url, kept)


def audit(destination: Destination, listed: NDArray[np.int64]) -> Audit:
    """Count the rows of ``tracks/`` against the manifest's keys.

    Args:
        listed: int64 [tracks], the manifest's keys.
    """
    auditor = _Auditor(np.sort(listed))
    for _, table in scan_tracks(destination, AUDITED):
        auditor.add(table)
    return auditor.result()


class _Auditor:
    """Counts rows file by file; ``add`` is called once a file."""

    def __init__(self, listed: NDArray[np.int64]) -> None:
        self.listed = listed
        self.seen = np.zeros(len(listed), np.int32)
        self.num_ok, self.audio_s, self.scored_s = 0, 0.0, 0.0
        self.codes: Counter[str] = Counter()
        self.num_files = 0

    def add(self, table: pa.Table) -> None:
        """Count the rows of a table with the columns ``AUDITED``."""
        self.num_files += 1
        if not len(self.listed):
            return
        keys = table[KEY].to_numpy()
        places = np.minimum(np.searchsorted(self.listed, keys), len(self.listed) - 1)
        known = self.listed[places] == keys
        np.add.at(self.seen, places[known], 1)
        if not known.all():
            table = table.filter(pa.array(known))
        is_ok = pc.equal(table["status"], "ok")
        self.num_ok += pc.sum(is_ok).as_py() or 0
        good = table.filter(is_ok)
        self.audio_s += pc.sum(good["duration_s"]).as_py() or 0.0
        self.scored_s += pc.sum(pc.multiply(good["duration_s"], pc.cast(good["coverage"], pa.float64()))).as_py() or 0.0
        if good.num_rows < table.num_rows:
            for entry in pc.value_counts(table.filter(pc.invert(is_ok))["error_code"]).to_pylist():
                self.codes[entry["values"]] += entry["counts"]

    def result(self) -> Audit:
        """Return what was counted."""
        return Audit(
            num_listed=len(self.listed),
            num_ok=int(self.num_ok),
            num_error=sum(self.codes.values()),
            errors_by_code=dict(sorted(self.codes.items(), key=lambda item: -item[1])),
            audio_s=float(self.audio_s),
            scored_s=float(self.scored_s),
            num_missing=int(np.count_nonzero(self.seen == 0)),
            num_doubled=int(np.count_nonzero(self.seen > 1)),
            num_files=self.num_files,
        )
