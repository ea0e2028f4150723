"""The manifest: every listed track, one row each, as Parquet parts written while the sources are still being read.

A folder holds ``part-NNNNN-TOKEN.parquet`` and ``_manifest.json``, the marker, which names the parts that count and is
written last. Parts that no marker names are what a killed listing left; the next one removes them. Until then the
manifest before stays whole.

Listed is the union of each source's last complete listing and of the limited ones since (``manifest_merge``). Sources
that are not listed again keep theirs; a listing that fails, or that finds nothing, takes nothing away.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tonearm.errors import DestinationError, SourceError, Stopped
from tonearm.runs.manifest import manifest_marker
from tonearm.runs.manifest.manifest_marker import MARKER as MARKER
from tonearm.runs.manifest.manifest_marker import UNKNOWN as UNKNOWN
from tonearm.runs.manifest.manifest_marker import Marker
from tonearm.runs.manifest.manifest_merge import Draft, merge
from tonearm.runs.manifest.manifest_parts import (
    BATCH_ROWS,
    KEY,
    Digests,
    Folder,
    PartWriter,
    Unreadable,
    UriWriter,
    digests,
    settle,
    to_batch,
    to_batches,
)
from tonearm.runs.rows.ranking import among
from tonearm.sources.listing import FILES, ListingCounts, list_sources, source_name
from tonearm.sources.track_ref import TrackRef
from tonearm.storage import filesystems
from tonearm.storage.uris import is_local, local_path, scheme, shown

NUM_TRIES = 10
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Listed tracks: those that one run has listed (``write_manifest``), or all that are (``read_manifest``).

    Attributes:
        num_bytes: of the tracks whose size the source tells.
        skipped: files that are not audio, by extension, the most frequent first.
        parts: the paths or URLs of its Parquet files.
        digest: 16 hex digits of the set of keys, whatever their order.
        path: its folder.
        empty: the sources, as they were given, that have no track today; what they listed before stays listed.
    """

    num_tracks: int
    num_bytes: int
    skipped: Mapping[str, int]
    parts: tuple[str, ...]
    digest: str
    path: str
    empty: tuple[str, ...] = ()


def write_manifest(
    sources: Sequence[str],
    folder: str,
    *,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    term: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Manifest:
    """List ``sources`` into ``folder`` and return what they list, once the manifest there holds it.

    Each object is listed once, however many sources name it, and no two have the same key. What ``limit`` cuts off is
    added to what its source listed before; a source that is read to its end replaces it.

    Args:
        sources: see ``list_tracks``.
        folder: a local path or a URL.
        progress: told the number of tracks so far, every 2,000 and at the end of each source.
        term: of the lock under which this run writes.
        check: called before the manifest is replaced; raises where this run may not do so any more.

    Raises:
        SourceError: a source cannot be read, there is no audio in any, or a part of what stays listed is gone.
        DestinationError: ``folder`` cannot be written, or a newer tonearm has written there.
        Stopped: another run has listed there meanwhile.
    """
    place = Folder(_absolute(folder))
    before = manifest_marker.read(place.path)
    left_over = _files(place)
    counts = ListingCounts()
    drafts = _list(sources, place, limit, counts, progress, term)
    own = [part for draft in drafts for part in draft.parts]
    earlier = manifest_marker.read(place.path) or Marker()
    if earlier.text != (before or Marker()).text and any(listing.term > term for listing in earlier.listings):
        raise Stopped(f"another run has listed in {shown(place.path)} meanwhile; run the same command again")
    _check_written(place, place.written)
    _commit(place, earlier, merge(place, earlier.listings, drafts), check, term)
    _clean(place, left_over | earlier.files, check)
    return Manifest(
        counts.num_tracks,
        counts.num_bytes,
        dict(counts.skipped.most_common()),
        tuple(place.url(part.name) for part in own),
        _digest(np.sort(np.concatenate([np.empty(0, np.int64), *(part.keys for part in own)]))),
        place.path,
        tuple(counts.empty),
    )


def _list(
    sources: Sequence[str],
    place: Folder,
    limit: int | None,
    counts: ListingCounts,
    progress: Callable[[int], None] | None,
    term: int,
) -> list[Draft]:
    """Write the tracks of ``sources`` as parts, by the listing that they belong to."""
    drafts: dict[str, Draft] = {}
    writers: dict[str, PartWriter] = {}
    covered: dict[str, UriWriter] = {}

    def repeated(listing: str, uri: str) -> None:
        covered.setdefault(listing, UriWriter(place)).add(uri)

    def tell() -> None:
        if progress is not None:
            progress(counts.num_tracks)

    for stream, refs in list_sources(sources, limit=limit, counts=counts, repeated=repeated):
        name = stream.listing
        draft = drafts.setdefault(name, Draft(name, name == FILES, term, Counter(), [], []))
        writer = writers.setdefault(name, PartWriter(place))
        for batch in to_batches(refs, tell):
            writer.add(pa.Table.from_batches([batch]))
        is_complete = stream.is_complete()
        draft.is_complete |= is_complete
        draft.skipped.update(stream.skipped)
        if name == FILES and scheme(stream.source) in ("http", "https"):
            draft.addresses.add(source_name(stream.source))
        if stream.folder and is_complete:
            draft.folders.add(name)
        if name != FILES:
            draft.parts = writer.close()
    for name, draft in drafts.items():
        draft.parts = writers[name].close()
        draft.covered = covered[name].close() if name in covered else []
    return list(drafts.values())


def _commit(place: Folder, earlier: Marker, drafts: Sequence[Draft], check: Callable[[], None], term: int) -> None:
    keys, shared = settle(place, [part for draft in drafts for part in draft.parts], earlier.shared_keys)
    # Never less than the one before: somebody may have deleted the lock's claims, and with them their count.
    term = max(term, earlier.term)
    marker = Marker(tuple(draft.to_listing() for draft in drafts), _digest(keys), shared, term)
    _check_written(place, marker.files & place.written)
    check()
    manifest_marker.write(place.path, marker)
    place.written -= marker.files


def _check_written(place: Folder, names: Collection[str]) -> None:
    """Look whether a run that has taken this one's place took its files for left-over ones.

    Raises:
        Stopped: it did.
    """
    if gone := _gone(place, sorted(names)):
        raise Stopped(f"another run has removed {gone} from {shown(place.path)}; run the same command again")


def _clean(place: Folder, left_over: set[str], check: Callable[[], None]) -> None:
    """Remove files that no marker names. One that may not be removed harms nobody, and is the last that is tried.

    Only what was there when this run began, or what it wrote itself: another may be listing by now. Nothing at all if
    another has taken over before this run's marker was there: it goes on from the one before.
    """
    check()
    with contextlib.suppress(DestinationError):
        marker = manifest_marker.read(place.path)
        if marker is None:
            return
        for name in sorted((left_over | place.written) - marker.files):
            if name.endswith(".parquet"):
                filesystems.delete(place.url(name))
        for name in manifest_marker.of_terms(place.path):
            if manifest_marker.term_of(name) < marker.term:
                filesystems.delete(place.url(name))


def _gone(place: Folder, names: Sequence[str]) -> str | None:
    """Return the first of ``names`` that is not there."""
    there = _files(place)
    with filesystems.reading(place.path):  # a store's listing may be late, so what it lacks is looked for by name
        return next((name for name in names if name not in there and not filesystems.exists(place.url(name))), None)


def _files(place: Folder) -> set[str]:
    return set(filesystems.list_files(place.path))


def _digest(keys: NDArray[np.int64]) -> str:
    return hashlib.sha256(keys.astype("<i8").tobytes()).hexdigest()[:16]


def read_manifest(folder: str) -> Manifest:
    """Return the finished manifest in ``folder``: all that is listed.

    Raises:
        SourceError: there is none, or one of its parts is gone.
        DestinationError: it cannot be read, or a newer tonearm has written it.
    """

    def read(place: Folder, marker: Marker) -> Manifest:
        if gone := _gone(place, marker.parts):
            raise Unreadable(
                f"the manifest in {shown(place.path)} lacks {gone}; run tonearm tag with its sources again"
            )
        parts = tuple(map(place.url, marker.parts))
        return Manifest(marker.num_tracks, marker.num_bytes, marker.skipped, parts, marker.digest, place.path)

    return _steadily(folder, read)


def listings(folder: str) -> tuple[tuple[str, bool, int, int], ...]:
    """Return what each source has listed: its name, whether it was ever read to its end, its tracks, and the term.

    The name is ``sources.FILES`` for objects that were given one by one, and ``UNKNOWN`` for what 0.1.0 listed. The
    last listed is the last. A track that several sources list counts where it was listed last.

    Raises:
        SourceError: there is no finished manifest.
        DestinationError: it cannot be read, or a newer tonearm has written it.
    """
    marker = manifest_marker.read_finished(_absolute(folder))
    return tuple((each.source, each.is_complete, each.num_tracks, each.term) for each in marker.listings)


def listing_keys(manifest: Manifest) -> NDArray[np.int64]:
    """Return the keys of ``manifest``, of a run's own listing for one, int64 [tracks], sorted.

    Raises:
        SourceError: one of its parts is gone.
    """
    return _keys(Folder(manifest.path), [part.rpartition("/")[2] for part in manifest.parts])


def read_keys(folder: str) -> NDArray[np.int64]:
    """Return the keys of all that is listed, int64 [tracks], sorted.

    Raises:
        SourceError: there is no finished manifest.
        DestinationError: it cannot be read, or a newer tonearm has written it.
    """
    return _steadily(folder, lambda place, marker: _keys(place, marker.parts))


def _keys(place: Folder, names: Sequence[str]) -> NDArray[np.int64]:
    keys = [place.read(name, [KEY])[KEY].to_numpy() for name in names]
    return np.sort(np.concatenate(keys)) if keys else np.empty(0, np.int64)


def _steadily(folder: str, read: Callable[[Folder, Marker], T]) -> T:
    """Return what ``read`` returns; where a part has gone because another manifest is there now, ask again."""
    place = Folder(_absolute(folder))
    marker = manifest_marker.read_finished(place.path)
    for _ in range(NUM_TRIES):
        try:
            return read(place, marker)
        except Unreadable:
            now = manifest_marker.read_finished(place.path)
            if now.text == marker.text:
                raise
            marker = now
    return read(place, marker)


def read_tracks(manifest: str | Manifest) -> Iterator[TrackRef]:
    """Yield all tracks that are listed in a folder, or those of a run's own listing.

    Where another manifest takes the place of a folder's while it is read, what follows is of that one, and nothing
    comes twice.

    Raises:
        SourceError: there is no finished manifest, or one of its parts is gone.
        DestinationError: it cannot be read, or a newer tonearm has written it.
    """
    if isinstance(manifest, Manifest):
        place = Folder(manifest.path)
        for part in manifest.parts:
            yield from _refs(place.read(part.rpartition("/")[2]))
        return
    place = Folder(_absolute(manifest))
    marker, given, before = manifest_marker.read_finished(place.path), list[Digests](), np.empty(0, "S16")
    for _ in range(NUM_TRIES):
        try:
            for name in marker.parts:
                table = place.read(name)
                if len(marker.parts) > 1 or len(before):
                    marks = digests(table["uri"])
                    table = table.filter(pa.array(~among(marks, before)))
                    given.append(marks)
                yield from _refs(table)
            return
        except Unreadable:
            now = manifest_marker.read_finished(place.path)
            if now.text == marker.text:
                raise
            marker, before = now, np.sort(np.concatenate([before, *given]))
            given = []
    raise Unreadable(f"the manifest in {shown(place.path)} is replaced again and again; run the same command again")


def _refs(table: pa.Table) -> Iterator[TrackRef]:
    for batch in table.to_batches(BATCH_ROWS):
        yield from (TrackRef(**row) for row in batch.to_pylist())


def prune(folder: str, sources: Sequence[str], *, term: int = 0, check: Callable[[], None] = lambda: None) -> int:
    """Forget what ``sources`` have listed, and return how many tracks are no longer listed; no row is removed.

    What another source has listed too stays.

    Args:
        sources: as they were given to ``write_manifest``, or a name of ``listings``; one object, where it was given by
            itself.
        term, check: see ``write_manifest``.

    Raises:
        SourceError: there is no finished manifest, or a source was never listed there; nothing is forgotten then.
        DestinationError: ``folder`` cannot be written, or a newer tonearm has written there.
    """
    place = Folder(_absolute(folder))
    before = manifest_marker.read_finished(place.path)
    known = {listing.source for listing in before.listings}
    names = {source if source in known else source_name(source) for source in sources}
    single = names - known
    if single:
        has_files = [listing for listing in before.listings if listing.source == FILES]
        uris = (uri for listing in has_files for part in listing.parts for uri in _uris(place, part))
        there = {name for name in map(source_name, uris) if name in single}
        if never := sorted(single - there):
            listed = ", ".join(shown(name) or "''" for name in sorted(known)) or "none"
            raise SourceError(f"{shown(never[0])} is no source of {shown(place.path)}; expected one of {listed}")
    drafts = merge(place, before.listings, [], forgotten=names & known, addresses=single)
    _commit(place, before, drafts, check, term)
    _clean(place, before.files, check)
    return before.num_tracks - sum(draft.to_listing().num_tracks for draft in drafts)


def _uris(place: Folder, name: str) -> Iterator[str]:
    yield from place.read(name, ["uri"])["uri"].to_pylist()


def to_table(refs: Sequence[TrackRef]) -> pa.Table:
    """Return refs as a table of ``schema.MANIFEST``."""
    return pa.Table.from_batches([to_batch(refs)])


def _absolute(folder: str) -> str:
    return local_path(folder) if is_local(folder) else folder.rstrip("/")
