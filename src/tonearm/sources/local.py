"""Listing folders and globs of this machine, one folder in memory at a time, in an order that is always the same."""

from __future__ import annotations

import errno
import io
import os
import posixpath
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tonearm.errors import FetchError, SourceError
from tonearm.sources.extensions import AUDIO_EXTENSIONS, OTHER_EXTENSIONS, SYSTEM, extension_of, is_system
from tonearm.sources.source import CHUNK_BYTES, LabelledRows, ReadLimits, Shape, append, changed, check_size
from tonearm.sources.track_ref import TrackRef, from_nanoseconds, make_ref
from tonearm.storage.globs import glob_matcher, part_matches, split_glob
from tonearm.storage.uris import WILDCARDS, is_local, local_path, local_uri, shown

UNREADABLE, NOT_A_FILE = "(unreadable folder)", "(not a file)"


def local_ref(path: str) -> TrackRef:
    """Return the ref of a local file as it is now; of one that is gone, without size and time.

    Raises:
        OSError: it cannot be looked at.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return make_ref(local_uri(path))
    return make_ref(local_uri(path), status.st_size, None, from_nanoseconds(status.st_mtime_ns))


def any_ref(path: str) -> TrackRef:
    """Return ``local_ref``, or the name alone of what cannot be looked at: reading it says what is wrong."""
    try:
        return local_ref(path)
    except (OSError, ValueError):
        return make_ref(local_uri(path))


def list_folder(folder: str, skipped: Counter[str]) -> Iterator[TrackRef]:
    """Yield the audio files below ``folder``, links followed, each real folder once.

    Raises:
        SourceError: the folder itself cannot be read; one below it is counted as skipped.
    """
    try:
        # _walk only counts a folder that it cannot read; the one that a person named is an error at once.
        os.scandir(folder).close()
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise SourceError(f"the folder {folder} cannot be read ({why}); change that or leave it out") from None
    return _tracks(_walk(folder, skipped, lambda path: True), skipped)


def list_glob(pattern: str, skipped: Counter[str]) -> Iterator[TrackRef]:
    """Yield the audio files that match ``pattern`` or lie below a folder that does, as a shell's expansion would.

    Args:
        pattern: an absolute path with ``*``, ``?``, ``[...]`` or ``**``.
    """
    folder, below = split_glob(pattern, os.path.isdir)
    parts = below.split("/")
    matches = glob_matcher(below)
    # Folders are left out by the parts before the first **; from there on any folder may hold a match.
    recursive = next((number for number, part in enumerate(parts) if "**" in part), len(parts))

    def may_hold(path: str) -> bool:
        pairs = zip(path[len(folder) :].split("/"), parts[:recursive], strict=False)
        return all(part_matches(name, part) for name, part in pairs)

    # A glob may match nothing; its folder need not be there.
    if not os.path.isdir(folder or "/"):
        return iter(())
    top = folder.rstrip("/") or "/"
    return _tracks((path for path in _walk(top, skipped, may_hold) if matches(path[len(folder) :])), skipped)


def _tracks(paths: Iterator[str], skipped: Counter[str]) -> Iterator[TrackRef]:
    for path in paths:
        extension = extension_of(path)
        if extension not in AUDIO_EXTENSIONS:
            skipped[extension] += 1
            continue
        try:
            status = os.stat(path)
        except OSError:  # a dangling link, or one that turns in a circle: reading it says what is wrong
            yield make_ref(local_uri(path))
            continue
        if stat.S_ISREG(status.st_mode):
            yield make_ref(local_uri(path), status.st_size, None, from_nanoseconds(status.st_mtime_ns))
        else:
            skipped[NOT_A_FILE] += 1


def _walk(top: str, skipped: Counter[str], may_hold: Callable[[str], bool]) -> Iterator[str]:
    """Yield the paths of all that is no folder. Real folders come first, so a link into the tree adds nothing."""
    seen: set[tuple[int, int]] = set()
    folders, links = [top], list[str]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        try:
            status = os.stat(folder)
            # By device and inode: links that lead back into the tree would never end.
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = _scan(folder, skipped)
        except OSError:
            skipped[UNREADABLE] += 1
            continue
        yield from (posixpath.join(folder, name) for name in entries.names)
        # The stack takes the last first, so reversed names come in ascending order.
        folders.extend(path for path in reversed(entries.folders) if may_hold(path))
        links.extend(path for path in entries.links if may_hold(path))


class _Entries(NamedTuple):
    """What a folder holds, each sorted: names of files, paths of folders and of links to folders."""

    names: list[str]
    folders: list[str]
    links: list[str]


def _scan(folder: str, skipped: Counter[str]) -> _Entries:
    names, folders, links = list[str](), list[str](), list[str]()
    with os.scandir(folder) as scanned:
        for entry in scanned:
            if is_system(entry.name):
                skipped[SYSTEM] += 1
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_symlink() and os.path.isdir(entry.path):
                links.append(entry.path)
            else:
                names.append(entry.name)
    # scandir gives the order of the file system, which differs between machines; --limit needs the same tracks.
    return _Entries(sorted(names), sorted(folders), sorted(links))


class LocalFiles:
    """Folders, files and globs of this machine."""

    schemes = ("file",)
    has_ranges = True
    shape: Shape = "prefix"

    def matches(self, source: str) -> bool:
        """Return whether it is a path, or a ``file://`` URI."""
        return is_local(source)

    def list(self, source: str, skipped: Counter[str]) -> Iterator[TrackRef]:
        """Yield the tracks of a folder or a glob, or the one file.

        Raises:
            SourceError: there is nothing there, or it cannot be read.
        """
        path = local_path(source)
        if os.path.isdir(path):
            return list_folder(path, skipped)
        if os.path.lexists(path):  # a name may hold the characters of a glob: [Live] 01.mp3
            if extension_of(path) in OTHER_EXTENSIONS:
                skipped[extension_of(path)] += 1
                return iter(())
            return iter([_named(path)])
        if WILDCARDS.search(path):
            return list_glob(path, skipped)
        raise missing(path)

    def labelled(self, source: str, label_by: str | None, columns: Sequence[str]) -> LabelledRows | None:
        """Return None: files have names only."""
        return None

    def read(self, ref: TrackRef, limits: ReadLimits) -> bytes:
        """Return a file's bytes."""
        return _read_file(ref, limits.max_bytes, limits.deadline)


def missing(path: str) -> SourceError:
    """Return the error for a path where nothing is."""
    return SourceError(f"no file or folder {shown(path)}; expected a path, a glob, or a URL such as s3://bucket/music")


def _named(path: str) -> TrackRef:
    try:
        return local_ref(path)
    except OSError as error:
        raise SourceError(f"{shown(path)} cannot be read ({os.strerror(error.errno or 0).lower()})") from None


def _read_file(ref: TrackRef, limit: int, deadline: float) -> bytes:
    try:
        # O_NONBLOCK: a named pipe must not hold the worker up.
        descriptor = os.open(local_path(ref.uri), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:
        raise FetchError(
            f"{shown(ref.uri)} is no path, which has neither zero bytes nor surrogates", code="not_found"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV):  # a socket, a device that is gone
            raise FetchError(f"{shown(ref.uri)} is not a file", code="not_found") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FetchError(f"{shown(ref.uri)} is not a file", code="not_found")
        check_size(ref, status.st_size, limit)
        # Labels of another version must not stand under the key of the one that was listed.
        if ref.modified is not None and from_nanoseconds(status.st_mtime_ns) != ref.modified:
            raise changed(ref)
        buffer = io.BytesIO()
        while chunk := os.read(descriptor, 16 * CHUNK_BYTES):
            append(ref, buffer, chunk, limit)
            if time.monotonic() >= deadline:
                raise TimeoutError
    finally:
        os.close(descriptor)
    return buffer.getvalue()
