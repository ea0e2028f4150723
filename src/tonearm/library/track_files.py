"""Which files of ``tracks/`` count.

Two things may leave a file there that does not: a run that was killed while it wrote (Ray Data's mark for the file is
still *pending*), and a compaction that was (its outputs count once its commit is written, its inputs until then)::

    _checkpoint/FP/NAME.pending.parquet        NAME*.parquet is being written
    _checkpoint/compaction/ID.pending          compacted-ID-*.parquet are being written
    _checkpoint/compaction/ID.json             they are whole: the files that it names are superseded
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections.abc import Mapping
from typing import Any

from pyarrow.fs import FileSelector, FileType

from tonearm.library import stores

PENDING_SUFFIX = ".pending.parquet"
COMPACTION = "compaction"
COMPACTED = "compacted-"


@dataclasses.dataclass(frozen=True)
class TrackFile:
    """One finished file: its path on the destination's file system, and its size."""

    path: str
    size_bytes: int

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)


@dataclasses.dataclass(frozen=True)
class Compactions:
    """What compactions have left: ids still being written, and commits (id → superseded names) not yet cleaned up."""

    pending: frozenset[str]
    commits: Mapping[str, frozenset[str]]


def read_compactions(destination: str) -> Compactions:
    """Return the state of compaction at ``destination``."""
    place = posixpath.join(destination.rstrip("/") or "/", "_checkpoint", COMPACTION)
    names = stores.list_files(place)
    commits: dict[str, frozenset[str]] = {}
    for name in names:
        if name.endswith(".json"):
            commit: dict[str, Any] = json.loads(stores.read_bytes(posixpath.join(place, name)))
            commits[name.removesuffix(".json")] = frozenset(commit["superseded"])
    pending = {name.removesuffix(".pending") for name in names if name.endswith(".pending")}
    return Compactions(frozenset(pending - set(commits)), commits)


def finished(destination: str) -> list[TrackFile]:
    """Return the files of ``tracks/`` that count, sorted by path; none where there is no such folder.

    Raises:
        DestinationError: the destination cannot be read.
    """
    with stores.reading(destination):
        return _finished(destination.rstrip("/") or "/")


def _finished(base: str) -> list[TrackFile]:
    filesystem, marks = stores.arrow_filesystem(posixpath.join(base, "_checkpoint"))
    _, folder = stores.arrow_filesystem(posixpath.join(base, "tracks"))
    compactions = read_compactions(base)
    while True:
        # Marks first: a file that is finished in between is then left out, rather than one taken that is half written.
        marked = filesystem.get_file_info(FileSelector(marks, recursive=True, allow_not_found=True))
        written = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
        # A compaction that commits between two looks would hide its outputs and delete its inputs.
        now = read_compactions(base)
        if now == compactions:
            break
        compactions = now
    names = [posixpath.basename(entry.path) for entry in marked]
    pending = (
        *(name.removesuffix(PENDING_SUFFIX) for name in names if name.endswith(PENDING_SUFFIX)),
        *(f"{COMPACTED}{identity}-" for identity in compactions.pending),
    )
    superseded: frozenset[str] = frozenset().union(*compactions.commits.values())
    return sorted(
        (
            TrackFile(entry.path, entry.size or 0)
            for entry in written
            if entry.type == FileType.File and _counts(posixpath.basename(entry.path), pending, superseded)
        ),
        key=lambda file: file.path,
    )


def _counts(name: str, pending: tuple[str, ...], superseded: frozenset[str]) -> bool:
    if not name.endswith(".parquet") or name.startswith(("_", ".")):
        return False
    return name not in superseded and not (pending and name.startswith(pending))
