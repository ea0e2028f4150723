"""Where tracks come from: folders, files, globs, object stores, tables and data sets, as one stream of ``TrackRef``.

Nothing here holds more than one page or folder of a listing, so a bucket of any size streams to the manifest.

Local tracks are written as absolute paths; a name that is not UTF-8 becomes a ``file://`` URI with its bytes quoted.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import glob
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from fsspec.utils import glob_translate

from tonearm.errors import SourceError
from tonearm.library import listing, stores

# What FFmpeg reads as audio, by the extensions people give it.
AUDIO_EXTENSIONS = frozenset(
    "3g2 3gp aa aa3 aac ac3 adts aif aifc aiff alac amr ape asf au awb caf dff dsf dts eac3 f4a flac gsm it m4a m4b m4p m4r "
    "mka mkv mod mogg mov mp1 mp2 mp3 mp4 mpa mpc mpga oga ogg ogm ogv oma opus qcp ra ram rm s3m shn snd sph spx tak tta "
    "voc vqf w64 wav wave webm wma wv xm".split()
)
TABLE_EXTENSIONS = (".parquet", ".csv", ".jsonl")
WILDCARDS = re.compile(r"[*?\[]")


@dataclasses.dataclass(frozen=True)
class TrackRef:
    """One audio object at one version. ``etag`` and ``modified`` are None where the store has none."""

    track_key: int
    uri: str
    size_bytes: int | None
    etag: str | None
    modified: datetime.datetime | None


@dataclasses.dataclass
class ListingCounts:
    """What a listing has seen so far; ``skipped`` counts other files by extension (``""`` without one)."""

    num_tracks: int = 0
    num_bytes: int = 0
    skipped: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


def track_key(uri: str, size_bytes: int | None, etag: str | None, modified: datetime.datetime | None, salt: int = 0) -> int:
    """Return a stable key in [0, 2**63) of an object's version; ``salt`` tells apart two that collide."""
    parts = (uri, size_bytes, etag, modified.isoformat() if modified else None, salt)
    digest = hashlib.blake2b("\x00".join(map(str, parts)).encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def make_ref(
    uri: str, size_bytes: int | None = None, etag: str | None = None, modified: datetime.datetime | None = None
) -> TrackRef:
    """Return the ref of an object, its key included."""
    return TrackRef(track_key(uri, size_bytes, etag, modified), uri, size_bytes, etag, modified)


def list_tracks(sources: Sequence[str], *, limit: int | None = None, counts: ListingCounts) -> Iterator[TrackRef]:
    """Yield the tracks of every source, in order; overlapping sources repeat theirs.

    Args:
        sources: see the command's help.
        limit: stop after so many.
        counts: filled while the stream is read.

    Raises:
        SourceError: a source that is missing, unreadable or of an unknown kind.
    """
    for source in sources:
        for ref in _one(source, counts):
            if limit is not None and counts.num_tracks >= limit:
                return
            counts.num_tracks += 1
            counts.num_bytes += ref.size_bytes or 0
            yield ref


def _one(source: str, counts: ListingCounts) -> Iterator[TrackRef]:
    from tonearm.library import datasets_source, table_source

    kind = stores.scheme(source)
    if kind == "hf" or (kind == "file" and datasets_source.is_saved_dataset(local_path(source))):
        return datasets_source.list_rows(source)
    if source.lower().endswith(TABLE_EXTENSIONS):
        return table_source.list_table(source)
    if kind == "file":
        return _local(source, counts)
    if kind in ("http", "https"):
        return iter([listing.head(source)])
    if kind in ("s3", "s3a"):
        return _matching(source, listing.s3_objects, counts)
    return _matching(source, listing.fsspec_objects, counts)


def local_path(source: str) -> str:
    """Return the path of a plain path or a ``file://`` URI."""
    if source.startswith("file://"):
        return os.fsdecode(unquote_to_bytes(source[len("file://") :]))
    return os.path.expanduser(source)


def local_uri(path: str) -> str:
    """Return the form in which a local track is written down."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "file://" + quote(os.fsencode(path))
    return path


def local_ref(path: str) -> TrackRef:
    """Return the ref of a local file as it is now.

    Raises:
        OSError: it is gone or cannot be read.
    """
    found = os.stat(path)
    modified = datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(microseconds=found.st_mtime_ns // 1000)
    return make_ref(local_uri(path), found.st_size, None, modified)


def is_audio(name: str, counts: ListingCounts) -> bool:
    """Return whether ``name`` has an audio extension; count it as skipped if not."""
    extension = os.path.splitext(name)[1].lower()
    if extension.removeprefix(".") in AUDIO_EXTENSIONS:
        return True
    counts.skipped[extension] += 1
    return False


def _local(source: str, counts: ListingCounts) -> Iterator[TrackRef]:
    path = os.path.abspath(local_path(source))
    if os.path.isdir(path):
        return _walk(path, counts, set())
    if os.path.isfile(path):
        return iter([local_ref(path)])
    if WILDCARDS.search(source):
        matches = glob.iglob(path, recursive=True)
        return (ref for match in matches for ref in _glob_match(match, counts))
    raise SourceError(f"no file or folder {source}; expected a path, a glob, or a URL such as s3://bucket/music")


def _glob_match(path: str, counts: ListingCounts) -> Iterator[TrackRef]:
    if os.path.isdir(path):
        # '**' matches folders too; their files match by themselves.
        return
    if is_audio(path, counts):
        yield local_ref(path)


def _walk(folder: str, counts: ListingCounts, seen: set[tuple[int, int]]) -> Iterator[TrackRef]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        raise SourceError(f"the folder {folder} may not be read; change its permissions or leave it out") from None
    here = os.stat(folder)
    if (here.st_dev, here.st_ino) in seen:
        return  # a link back to a folder above
    seen = seen | {(here.st_dev, here.st_ino)}
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            mode = entry.stat().st_mode
        except FileNotFoundError:
            continue  # a dangling link, or gone since
        if stat.S_ISDIR(mode):
            yield from _walk(entry.path, counts, seen)
        elif stat.S_ISREG(mode) and is_audio(entry.name, counts):
            yield local_ref(entry.path)


def _matching(source: str, list_objects: listing.Lister, counts: ListingCounts) -> Iterator[TrackRef]:
    match = WILDCARDS.search(source)
    prefix = source[: match.start()] if match else source
    pattern = re.compile(glob_translate(source)) if match else None
    found = False
    for uri, size_bytes, etag, modified in list_objects(prefix):
        found = True
        name = uri[len(prefix) :]
        if not match and uri != source:
            # A prefix is a folder: s3://b/music must not take s3://b/musical/a.mp3 with it.
            if not source.endswith("/") and not name.startswith("/"):
                continue
            if any(part.startswith(".") for part in name.split("/")):
                continue
        if pattern is not None and not pattern.fullmatch(uri):
            continue
        if uri == source or is_audio(uri, counts):
            yield make_ref(uri, size_bytes, etag, modified)
    if not found:
        raise SourceError(f"nothing at {source}; expected objects below this prefix (is the bucket's name right?)")


def folder_of(url: str) -> str:
    """Return the folder that relative URIs in the table at ``url`` are relative to."""
    if stores.is_local(url):
        return str(Path(os.path.abspath(local_path(url))).parent)
    return url.rsplit("/", 1)[0]
