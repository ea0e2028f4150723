"""Which files of ``tracks/`` count.

Two things may leave a file there that does not: a run that was killed while it wrote (Ray Data's mark for the file is
still *pending*), and a compaction that was (its outputs count once its commit is written, its inputs until then)::

    _checkpoint/FP/NAME.pending.parquet        NAME*.parquet is being written
    _checkpoint/compaction/ID.pending          compacted-ID-*.parquet are being written
    _checkpoint/compaction/ID.json             they are whole: the files that it names are superseded

A file whose mark has been renamed counts, even if the pending one is there still or again: object stores rename by
copying and deleting.
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections.abc import Collection, Mapping

from pyarrow.fs import FileSelector, FileType

from tonearm.errors import DestinationError
from tonearm.runs.places import CHECKPOINT, COMPACTION, TRACKS
from tonearm.storage import filesystems
from tonearm.storage.uris import shown

PENDING_SUFFIX = ".pending.parquet"
COMPACTED = "compacted-"
# How often what vanished while it was looked at is looked for again before a person is asked; each time another process
# has completed a step meanwhile.
MAX_LOOKS = 100


@dataclasses.dataclass(frozen=True)
class TrackFile:
    """One finished file at one version.

    Attributes:
        path: on the destination's file system.
        modified_ns: when it was written, in ns; None on object stores.
    """

    path: str
    size_bytes: int
    modified_ns: int | None = None

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)


@dataclasses.dataclass(frozen=True)
class Commit:
    """What a step of compaction says: the files that no longer count, and those that count in their place."""

    superseded: frozenset[str]
    outputs: frozenset[str]

    def is_whole(self, names: Collection[str]) -> bool:
        """Return whether all outputs are among ``names``; if not, the step was undone before its commit landed."""
        return self.outputs.issubset(names)


@dataclasses.dataclass(frozen=True)
class Compactions:
    """What compactions have left: ids still being written, commits by id not yet cleaned up, and commits too late.

    A step's pending mark is deleted when its inputs are, or when it is undone: without it a commit says nothing.
    """

    pending: frozenset[str]
    commits: Mapping[str, Commit]
    late: frozenset[str] = frozenset()


def read_compactions(destination: str) -> Compactions:
    """Return the state of compaction at ``destination``.

    Raises:
        DestinationError: a commit that is not what a compaction writes; nothing that it names is touched.
    """
    place = posixpath.join(destination.rstrip("/") or "/", CHECKPOINT, COMPACTION)
    for _ in range(MAX_LOOKS):
        names = filesystems.list_files(place)
        try:
            commits = {
                name.removesuffix(".json"): _read_commit(posixpath.join(place, name))
                for name in names
                if name.endswith(".json")
            }
        except FileNotFoundError:
            continue  # that compaction has cleaned up since: its outputs count, whatever the names say
        pending = {name.removesuffix(".pending") for name in names if name.endswith(".pending")}
        late = frozenset(commits) - pending
        commits = {identity: commit for identity, commit in commits.items() if identity in pending}
        return Compactions(frozenset(pending - set(commits)), commits, late)
    raise DestinationError(f"{shown(place)} changed {MAX_LOOKS} times while it was read; run the command again")


def _read_commit(url: str) -> Commit:
    content = filesystems.read_bytes(url)
    try:
        values = json.loads(content)
        names, outputs = values["superseded"], values.get("outputs", [])
        if not isinstance(names, list) or not isinstance(outputs, list):
            raise ValueError(f"superseded is {names!r:.60}, expected a list of names")
        for name in (*names, *outputs):
            # What a commit names is deleted, so a path that leads elsewhere must not get that far.
            if not (isinstance(name, str) and _is_plain(name)):
                raise ValueError(f"it names {name!r:.60}, expected files of tracks/")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = "it has no list of superseded files" if isinstance(error, KeyError | TypeError) else str(error)
        raise DestinationError(
            f"{shown(url)} is not what a compaction writes ({reason}), and nothing was deleted; delete that file: no "
            "row is lost by that"
        ) from None
    return Commit(frozenset(names), frozenset(outputs))


def finished(destination: str) -> list[TrackFile]:
    """Return the files of ``tracks/`` that count, sorted by path; none where there is no such folder.

    Raises:
        DestinationError: the destination cannot be read.
    """
    with filesystems.reading(destination):
        return _finished(destination.rstrip("/") or "/")


def _finished(base: str) -> list[TrackFile]:
    filesystem, marks = filesystems.arrow_filesystem(posixpath.join(base, CHECKPOINT))
    _, folder = filesystems.arrow_filesystem(posixpath.join(base, TRACKS))
    compactions = read_compactions(base)
    while True:
        # Marks last. A file has its mark before its first byte, so one that was half written when it was listed is
        # marked still, or whole by now. The other way round, a file that is finished in between is left out, and its
        # rows are in no file where the run has removed the rows that they replace.
        written = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
        marked = filesystem.get_file_info(FileSelector(marks, recursive=True, allow_not_found=True))
        # A compaction that commits between two looks would hide its outputs and delete its inputs.
        now = read_compactions(base)
        if now == compactions:
            break
        compactions = now
    names = {posixpath.basename(entry.path) for entry in marked}
    pending = (
        *begun(names),
        *(f"{COMPACTED}{identity}-" for identity in compactions.pending),
    )
    there = {posixpath.basename(entry.path) for entry in written}
    superseded: frozenset[str] = frozenset().union(
        *(commit.superseded for commit in compactions.commits.values() if commit.is_whole(there))
    )
    return sorted(
        (
            TrackFile(entry.path, entry.size or 0, entry.mtime_ns)
            for entry in written
            if entry.type == FileType.File and _counts(posixpath.basename(entry.path), pending, superseded)
        ),
        key=lambda file: file.path,
    )


def begun(marks: Collection[str]) -> list[str]:
    """Return how the names of the files begin that ``marks``, names of one or more folders, say are being written."""
    started = (mark.removesuffix(PENDING_SUFFIX) for mark in marks if mark.endswith(PENDING_SUFFIX))
    return [name for name in started if name and f"{name}.parquet" not in marks]


def _counts(name: str, pending: tuple[str, ...], superseded: frozenset[str]) -> bool:
    return _is_plain(name) and name not in superseded and not (pending and name.startswith(pending))


def _is_plain(name: str) -> bool:
    """Return whether ``name`` is that of a Parquet file directly in a folder, in plain sight."""
    return name.endswith(".parquet") and not name.startswith(("_", ".")) and posixpath.basename(name) == name
