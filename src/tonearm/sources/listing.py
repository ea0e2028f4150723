"""Where tracks come from: folders, files, globs, object stores, tables and data sets, as one stream of ``TrackRef``.

A listing holds one folder or one page at a time, so a library of any size streams to the manifest.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import itertools
import os
import re
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from tonearm.errors import SourceError, UsageError
from tonearm.sources.registry import list_with, source_of
from tonearm.sources.track_ref import TrackRef as TrackRef
from tonearm.sources.track_ref import make_ref as make_ref
from tonearm.sources.track_ref import track_key as track_key
from tonearm.storage.uris import WILDCARDS, is_local, local_path, local_uri, scheme, shown, split_url

NUM_NAMED = 5
# The name that objects given one by one share: a shell's *.mp3 is a thousand sources.
FILES = "(files)"
# Parameters of a signed address, which are others each time that it is signed.
_SIGNING = re.compile(
    r"(?i)^(x-(amz|goog|oss|cos|obs)-.*|.*(key|token|secret|sig|signature|credential|password|auth|authorization).*"
    r"|expires?|policy|googleaccessid|awsaccesskeyid|s[eprvt]|spr|sip|sdd|sk(oid|tid|t|e|s|v)|ossaccesskeyid)$"
)


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


class SourceStream:
    """One source, opened: iterate over it once for the tracks that no source before it gave.

    Attributes:
        source: as it was given.
        kind: what lists it.
        listing: the name of its listing: ``source_name``, or ``FILES`` for an object that was given by its own name.
        folder: whether it is a folder or a prefix, whose listing tells what there is below it.
        skipped: files that are not audio, by extension.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.skipped: Counter[str] = collections.Counter()
        self.kind = source_of(source)
        self._rest = list_with(self.kind, source, self.skipped)
        self._first = next(self._rest, None)
        self._has_ended = False
        name = source_name(source)
        is_object = self._first is not None and (
            self.kind.shape == "object" or (self.kind.shape == "prefix" and self._first.uri == name)
        )
        self.listing = FILES if is_object else name
        is_prefix = self.kind.shape == "prefix" and not is_object
        if is_local(source):
            self.folder = is_prefix and os.path.isdir(local_path(source))
        else:
            self.folder = is_prefix and not WILDCARDS.search(name)

    @property
    def is_empty(self) -> bool:
        """Whether it has no track at all."""
        return self._first is None

    @property
    def first(self) -> TrackRef | None:
        """Its first track, which has been looked up already."""
        return self._first

    def read(
        self, counts: ListingCounts, limit: int | None, seen: dict[int, str] | None, repeated: Callable[[str], None]
    ) -> Iterator[TrackRef]:
        """Yield the tracks that are not in ``seen`` until ``counts.num_tracks`` is ``limit``.

        Args:
            seen: digest of a URI and the listing that has it, filled; None where nothing can come twice.
            repeated: told the URIs that another listing has.
        """
        if self._first is None:
            return
        self._rest = itertools.chain([self._first], self._rest)
        for ref in self._rest:
            if seen is not None:
                mark = int.from_bytes(hashlib.blake2b(ref.uri.encode(), digest_size=16).digest(), "big")
                has_it = seen.get(mark)
                if has_it is not None:
                    if has_it != self.listing:
                        repeated(ref.uri)
                    continue
                seen[mark] = self.listing
            counts.num_tracks += 1
            counts.num_bytes += ref.size_bytes or 0
            yield ref
            if counts.num_tracks == limit:
                return
        self._has_ended = True

    def is_complete(self) -> bool:
        """Return whether all there is has been read; after a limit this looks for one further track."""
        if self._has_ended:
            return True
        before = self.skipped.copy()
        try:
            self._has_ended = next(self._rest, None) is None
        except SourceError:
            return False
        finally:
            if not self._has_ended:
                self.skipped.clear()
                self.skipped.update(before)
        return self._has_ended


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
    for _, refs in list_sources(sources, limit=limit, counts=counts):
        yield from refs


def list_sources(
    sources: Sequence[str],
    *,
    limit: int | None = None,
    counts: ListingCounts | None = None,
    repeated: Callable[[str, str], None] = lambda listing, uri: None,
) -> Iterator[tuple[SourceStream, Iterator[TrackRef]]]:
    """Yield each source that has a track, with its tracks, to be read before the next is asked for.

    After ``limit`` tracks no further source is given.

    Args:
        sources, limit, counts: see ``list_tracks``.
        repeated: told the listing and the URI of a track that a source before has under another listing.

    Raises:
        SourceError: as ``list_tracks``.
    """
    counts = ListingCounts() if counts is None else counts
    if limit is not None and limit < 1:
        raise UsageError(f"got a limit of {limit}, expected at least 1 track")
    streams = [SourceStream(source) for source in sources]
    may_repeat = len(sources) > 1 or any(stream.kind.shape == "list" for stream in streams)
    seen: dict[int, str] | None = {} if may_repeat else None
    try:
        for stream in streams:
            if stream.is_empty:
                counts.empty.append(stream.source)
            else:
                yield stream, stream.read(counts, limit, seen, functools.partial(repeated, stream.listing))
            if counts.num_tracks == limit:
                return
    finally:
        for stream in streams:
            counts.skipped.update(stream.skipped)
    if not counts.num_tracks:
        raise _nothing(sources, counts)


def source_name(source: str) -> str:
    """Return what a source is called where its listing is kept, the same however it was written and signed.

    A local one is its absolute path. A URL is without user, password, a slash at its end and the parameters that sign
    it; what else a query says is there as a digest, since nobody knows what is a secret.
    """
    if is_local(source):
        return local_uri(local_path(source))
    kind, rest = scheme(source), source.partition("://")[2]
    query = ""
    if kind in ("http", "https"):
        parts = split_url(source)
        rest = f"{parts.place.rpartition('@')[2]}{parts.path}"
        unsigned = [pair for pair in urllib.parse.parse_qsl(parts.query, True) if not _SIGNING.match(pair[0])]
        query = f"?{hashlib.sha256(repr(unsigned).encode()).hexdigest()[:16]}" if unsigned else ""
    else:
        place, slash, key = rest.partition("/")
        user, at, bucket = place.rpartition("@")
        # abfs://CONTAINER@ACCOUNT is no credential; user:password@ is.
        rest = (bucket if at and ":" in user else place) + slash + key
    return f"{kind}://{rest.rstrip('/')}{query}"


def _nothing(sources: Sequence[str], counts: ListingCounts) -> SourceError:
    where = ", ".join(shown(source) for source in sources[:NUM_NAMED]) + (", ..." if len(sources) > NUM_NAMED else "")
    kinds = counts.skipped.most_common(NUM_NAMED)
    names = ", ".join(f"{count:,} {kind or 'without an extension'}" for kind, count in kinds)
    why = f"{names} skipped" if names else "nothing matches" if any(map(WILDCARDS.search, sources)) else "it is empty"
    advice = "expected files such as .mp3, .flac or .wav; name others in a table with a uri column"
    return SourceError(f"no audio in {where}: {why}; {advice}")
