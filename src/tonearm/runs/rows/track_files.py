"""Find out which files of ``tracks/`` count.

Two things can leave files there that do not count: a run that was killed while writing one (Ray Data's mark of the file
is still *pending*), and a compaction that was killed (its outputs count once its commit is written, its inputs until
then)::

    _checkpoint/FP/NAME.pending.parquet        NAME*.parquet is being written
    _checkpoint/compaction/ID.pending          compacted-ID-*.parquet are being written
    _checkpoint/compaction/ID.json             they are whole: the files that it names are superseded

A file whose mark has been renamed counts, even if the pending mark is also there: object stores rename by copying and
then deleting.
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
# How often compactions are read again because a file vanished in between, before giving up. Each time, another process
# has completed a step.
MAX_LOOKS = 100


@dataclasses.dataclass(frozen=True)
class TrackFile:
    """A finished file, as it was when it was listed.

    Attributes:
        path: on the destination's file system.
        modified_ns: time of writing in ns; None on object stores.
    """

    path: str
    size_bytes: int
    modified_ns: int | None = None

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)


@dataclasses.dataclass(frozen=True)
class Commit:
    """The commit of a step of compaction: the files that no longer count, and those that count instead."""

    superseded: frozenset[str]
    outputs: frozenset[str]

    def is_whole(self, names: Collection[str]) -> bool:
        """Return whether all outputs are among ``names``; if not, the step was undone before its commit landed."""
        return self.outputs.issubset(names)


@dataclasses.dataclass(frozen=True)
class Compactions:
    """The files of unfinished compactions.

    Attributes:
        pending: ids of steps without a commit.
        commits: by id, commits of steps whose inputs are not all deleted yet.
        late: ids of commits without a pending mark, which have no effect: the step was completed or undone before.
    """

    pending: frozenset[str]
    commits: Mapping[str, Commit]
    late: frozenset[str] = frozenset()


def read_compactions(destination: str) -> Compactions:
    """Return the state of compaction at ``destination``.

    Raises:
        DestinationError: a commit is not what a compaction writes; none of the files that it names is touched.
    """
    folder = posixpath.join(destination.rstrip("/") or "/", CHECKPOINT, COMPACTION)
    for _ in range(MAX_LOOKS):
        names = filesystems.list_files(folder)
        try:
            commits = {
                name.removesuffix(".json"): _read_commit(posixpath.join(folder, name))
                for name in names
                if name.endswith(".json")
            }
        except FileNotFoundError:
            continue  # the compaction has finished since the folder was listed, so list it again
        pending = {name.removesuffix(".pending") for name in names if name.endswith(".pending")}
        late = frozenset(commits) - pending
        commits = {identity: commit for identity, commit in commits.items() if identity in pending}
        return Compactions(frozenset(pending - set(commits)), commits, late)
    raise DestinationError(f"{shown(folder)} changed {MAX_LOOKS} times while it was read; run the command again")


def _read_commit(url: str) -> Commit:
    content = filesystems.read_bytes(url)
    try:
        values = json.loads(content)
        names, outputs = values["superseded"], values.get("outputs", [])
        if not isinstance(names, list) or not isinstance(outputs, list):
            raise ValueError(f"superseded is {names!r:.60}, expected a list of names")
        for name in (*names, *outputs):
            # The files that a commit names are deleted, so a path to another folder must be refused here.
            if not (isinstance(name, str) and _is_parquet_name(name)):
                raise ValueError(f"it names {name!r:.60}, expected files of tracks/")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = "it has no list of superseded files" if isinstance(error, KeyError | TypeError) else str(error)
        raise DestinationError(
            f"{shown(url)} is not what a compaction writes ({reason}), and nothing was deleted; delete that file: no "
            "row is lost by that"
        ) from None
    return Commit(frozenset(names), frozenset(outputs))


def finished(destination: str) -> list[TrackFile]:
    """Return the files of ``tracks/`` that count, sorted by path; none if there is no such folder.

    Raises:
        DestinationError: the destination cannot be read.
    """
    with filesystems.reading(destination):
        return _list_finished(destination.rstrip("/") or "/")


def _list_finished(base: str) -> list[TrackFile]:
    filesystem, marks = filesystems.arrow_filesystem(posixpath.join(base, CHECKPOINT))
    folder = filesystems.arrow_filesystem(posixpath.join(base, TRACKS)).path
    compactions = read_compactions(base)
    while True:
        # List the marks after the files. A file has its mark before its first byte, so one that was half written when
        # it was listed is either still marked or complete by now. In the other order, a file that is finished in
        # between would be left out; if its run has already removed the rows that it replaces, they would be in no file.
        written = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
        marks_found = filesystem.get_file_info(FileSelector(marks, recursive=True, allow_not_found=True))
        # If a compaction commits between the listings, its inputs may be deleted and its outputs still look pending.
        compactions_after = read_compactions(base)
        if compactions_after == compactions:
            break
        compactions = compactions_after
    names = {posixpath.basename(entry.path) for entry in marks_found}
    pending = (
        *begun(names),
        *(f"{COMPACTED}{identity}-" for identity in compactions.pending),
    )
    written_names = {posixpath.basename(entry.path) for entry in written}
    superseded: frozenset[str] = frozenset().union(
        *(commit.superseded for commit in compactions.commits.values() if commit.is_whole(written_names))
    )
    return sorted(
        (
            TrackFile(entry.path, entry.size or 0, entry.mtime_ns)
            for entry in written
            if entry.type == FileType.File and _does_count(posixpath.basename(entry.path), pending, superseded)
        ),
        key=lambda file: file.path,
    )


def begun(marks: Collection[str]) -> list[str]:
    """Return the prefixes of the names of files that are being written, from the names of marks of any folders."""
    pending_names = (mark.removesuffix(PENDING_SUFFIX) for mark in marks if mark.endswith(PENDING_SUFFIX))
    return [name for name in pending_names if name and f"{name}.parquet" not in marks]


def _does_count(name: str, pending: tuple[str, ...], superseded: frozenset[str]) -> bool:
    return _is_parquet_name(name) and name not in superseded and not (pending and name.startswith(pending))


def _is_parquet_name(name: str) -> bool:
    """Return whether ``name`` is that of a Parquet file directly in a folder, and not hidden."""
    return name.endswith(".parquet") and not name.startswith(("_", ".")) and posixpath.basename(name) == name
