"""Where tracks come from: folders, files, globs, object stores, tables and data sets, as one stream of ``TrackRef``.

A listing holds one folder or one page at a time, so a library of any size streams to the manifest.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import os
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence

from tonearm.errors import SourceError, UsageError
from tonearm.library import datasets_source, store_listing, stores, table_source
from tonearm.library.formats import OTHER_EXTENSIONS, extension_of, is_table
from tonearm.library.local_listing import list_folder, list_glob, local_ref
from tonearm.library.track_ref import TrackRef as TrackRef
from tonearm.library.track_ref import make_ref as make_ref
from tonearm.library.track_ref import track_key as track_key
from tonearm.library.uris import WILDCARDS, local_path, scheme, shown

NUM_NAMED = 5


@dataclasses.dataclass
class ListingCounts:
    """What a listing has seen so far.

    Attributes:
        num_bytes: of the tracks whose size the source tells.
        skipped: files that are not audio, by extension with its dot (``""`` without one).
        empty: the sources that gave no track.
    """

    num_tracks: int = 0
    num_bytes: int = 0
    skipped: Counter[str] = dataclasses.field(default_factory=collections.Counter)
    empty: list[str] = dataclasses.field(default_factory=list)


def list_tracks(
    sources: Sequence[str], *, limit: int | None = None, counts: ListingCounts | None = None
) -> Iterator[TrackRef]:
    """Yield the tracks of every source, in order, each object once however many sources name it.

    The first track of every source is looked up before the first is given, so a misspelt source fails at once.

    Args:
        sources: folders, files, globs, ``s3://``, ``gs://``, ``az://`` and ``https://`` URLs, tables of URIs
            (``.parquet``, ``.csv``, ``.jsonl``), ``hf://datasets/OWNER/NAME[/CONFIG]`` and folders of ``save_to_disk``.
        limit: stop after so many, at least 1.
        counts: filled while the stream is read.

    Raises:
        SourceError: a source that is missing, unreadable or of an unknown kind, or no track in any of them.
    """
    counts = ListingCounts() if counts is None else counts
    if limit is not None and limit < 1:
        raise UsageError(f"got a limit of {limit}, expected at least 1 track")
    streams = [(source, *_peeked(source, counts)) for source in sources]
    may_repeat = len(sources) > 1 or any(_is_table(source) or scheme(source) == "hf" for source in sources)
    seen: set[int] = set()
    for source, first, rest in streams:
        if first is None:
            counts.empty.append(source)
            continue
        for ref in itertools.chain([first], rest):
            if may_repeat:
                mark = int.from_bytes(hashlib.blake2b(ref.uri.encode(), digest_size=16).digest(), "big")
                if mark in seen:
                    continue
                seen.add(mark)
            counts.num_tracks += 1
            counts.num_bytes += ref.size_bytes or 0
            yield ref
            if counts.num_tracks == limit:
                return
    if not counts.num_tracks:
        raise _nothing(sources, counts)


def _peeked(source: str, counts: ListingCounts) -> tuple[TrackRef | None, Iterator[TrackRef]]:
    stream = _opened(source, counts.skipped)
    return next(stream, None), stream


def _opened(source: str, skipped: Counter[str]) -> Iterator[TrackRef]:
    kind = scheme(source)
    if kind == "hf":
        return datasets_source.list_rows(source)
    if kind == "file":
        return _local(source, skipped)
    if _is_table(source):
        return table_source.list_table(source)
    if kind in ("http", "https"):
        return iter([store_listing.head(source)])
    if kind == "s3":
        return store_listing.list_s3(source, skipped)
    if kind in stores.EXTRAS or kind == "memory":
        return store_listing.list_other(source, skipped)
    raise SourceError(f"{shown(source)}: unknown scheme {kind}://; expected one of {stores.KNOWN}")


def _is_table(source: str) -> bool:
    return is_table(urllib.parse.urlsplit(source).path if scheme(source) in ("http", "https") else source)


def _local(source: str, skipped: Counter[str]) -> Iterator[TrackRef]:
    path = local_path(source)
    if os.path.isdir(path):
        if datasets_source.is_saved(path):
            return datasets_source.list_rows(path)
        return list_folder(path, skipped)
    if os.path.lexists(path):  # a name may hold the characters of a glob: [Live] 01.mp3
        if is_table(path):
            return table_source.list_table(source)
        if extension_of(path) in OTHER_EXTENSIONS:
            skipped[extension_of(path)] += 1
            return iter(())
        return iter([_named(path)])
    if WILDCARDS.search(path):
        return list_glob(path, skipped)
    raise SourceError(f"no file or folder {shown(path)}; expected a path, a glob, or a URL such as s3://bucket/music")


def _named(path: str) -> TrackRef:
    try:
        return local_ref(path)
    except OSError as error:
        raise SourceError(f"{shown(path)} cannot be read ({os.strerror(error.errno or 0).lower()})") from None


def _nothing(sources: Sequence[str], counts: ListingCounts) -> SourceError:
    where = ", ".join(shown(source) for source in sources[:NUM_NAMED]) + (", ..." if len(sources) > NUM_NAMED else "")
    kinds = counts.skipped.most_common(NUM_NAMED)
    names = ", ".join(f"{count:,} {kind or 'without an extension'}" for kind, count in kinds)
    found = f"{names} skipped" if names else "nothing matches" if any(map(WILDCARDS.search, sources)) else "it is empty"
    advice = "expected files such as .mp3, .flac or .wav; name others in a table with a uri column"
    return SourceError(f"no audio in {where}: {found}; {advice}")
