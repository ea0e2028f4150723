"""The manifest: every listed track, one row each, as Parquet parts written while the sources are still being read.

A manifest is a folder with ``part-NNNNN-TOKEN.parquet`` and ``_manifest.json``, the marker, which names the parts that
count and is written last. Until then the previous manifest stays valid. Parts that no marker names were left by a
killed listing; the next one deletes them.

The listed tracks are those of each source's last complete listing and of its limited listings since
(``manifest_merge``). Sources that are not listed again keep their tracks. A listing that fails, or finds no audio,
removes nothing.
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
from tonearm.runs.manifest.manifest_marker import Listing, Marker
from tonearm.runs.manifest.manifest_merge import Draft, merge
from tonearm.runs.manifest.manifest_parts import (
    Digests,
    Folder,
    PartWriter,
    Unreadable,
    UriWriter,
    digests,
    settle,
    to_batch,
    to_batches,
    to_refs,
)
from tonearm.runs.places import KEY
from tonearm.runs.rows.ranking import among
from tonearm.sources.listing import FILES, ListingCounts, list_sources, source_name
from tonearm.sources.track_ref import TrackRef
from tonearm.storage import filesystems
from tonearm.storage.uris import is_local, local_path, scheme, shown

NUM_TRIES = 10
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class Manifest:
    """Listed tracks: those of all listings (``read_manifest``), or of one run's own listing (``RunListing``).

    Attributes:
        num_bytes: sum over the tracks whose size the source tells.
        skipped: files that are not audio, by extension, the most frequent first.
        parts: the paths or URLs of its Parquet files.
        digest: 16 hex digits of the set of keys, which do not depend on their order.
        path: its folder.
        empty: the given sources that have no track now; what they listed before stays listed.
    """

    num_tracks: int
    num_bytes: int
    skipped: Mapping[str, int]
    parts: tuple[str, ...]
    digest: str
    path: str
    empty: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        """Return whether the same is listed; that a run knows its own keys makes no difference."""
        names = [field.name for field in dataclasses.fields(Manifest)]
        return isinstance(other, Manifest) and all(getattr(self, name) == getattr(other, name) for name in names)

    __hash__ = None  # type: ignore[assignment]  # ``skipped`` has none


@dataclasses.dataclass(frozen=True, eq=False)
class RunListing(Manifest):
    """The tracks that one run has listed; ``keys`` are theirs, int64 [tracks], sorted."""

    keys: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.empty(0, np.int64), repr=False)

    def tracks(self) -> Iterator[TrackRef]:
        """Yield the tracks.

        Raises:
            SourceError: a part is gone.
            DestinationError: it cannot be read.
        """
        place = Folder(self.path)
        for part in self.parts:
            yield from to_refs(place.read(part.rpartition("/")[2]))


def write_manifest(
    sources: Sequence[str],
    folder: str,
    *,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    term: int = 0,
    check: Callable[[], None] = lambda: None,
) -> RunListing:
    """List ``sources``, merge the listing into the manifest in ``folder``, and return this run's own listing.

    Each object is listed once even if several sources name it, and no two objects have the same key. A source that is
    read to its end replaces its earlier listing; one that ``limit`` cuts short is added to it.

    Args:
        sources: see ``list_tracks``.
        folder: a local path or a URL.
        progress: called with the number of tracks so far, every 2,000 tracks and at the end of each source.
        term: the term of the lock under which this run writes.
        check: called before the manifest is replaced; raises if another run has the lock.

    Raises:
        SourceError: a source cannot be read, none has any audio, or a part that stays listed is gone.
        DestinationError: ``folder`` cannot be written, or a newer tonearm has written there.
        Stopped: another run has listed there meanwhile.
    """
    target = Folder(_absolute_folder(folder))
    marker_before = manifest_marker.read(target.path)
    files_before = _file_names(target)
    counts = ListingCounts()
    drafts = _write_parts(sources, target, limit, counts, progress, term)
    listed_parts = [part for draft in drafts for part in draft.parts]
    marker_now = manifest_marker.read(target.path) or Marker()
    if marker_now.text != (marker_before or Marker()).text and any(
        listing.term > term for listing in marker_now.listings
    ):
        raise Stopped(f"another run has listed in {shown(target.path)} meanwhile; run the same command again")
    _require_written(target, target.written)
    _write_marker(target, marker_now, merge(target, marker_now.listings, drafts), check, term)
    _delete_unnamed(target, files_before | marker_now.files, check)
    keys = np.sort(np.concatenate([np.empty(0, np.int64), *(part.keys for part in listed_parts)]))
    return RunListing(
        counts.num_tracks,
        counts.num_bytes,
        dict(counts.skipped.most_common()),
        tuple(target.url(part.name) for part in listed_parts),
        _keys_digest(keys),
        target.path,
        tuple(counts.empty),
        keys,
    )


def _write_parts(
    sources: Sequence[str],
    place: Folder,
    limit: int | None,
    counts: ListingCounts,
    progress: Callable[[int], None] | None,
    term: int,
) -> list[Draft]:
    """Write the tracks of ``sources`` as parts; return a draft for each listing that they belong to."""
    drafts: dict[str, Draft] = {}
    writers: dict[str, PartWriter] = {}
    covered: dict[str, UriWriter] = {}

    def repeated(listing: str, uri: str) -> None:
        covered.setdefault(listing, UriWriter(place)).add(uri)

    def report() -> None:
        if progress is not None:
            progress(counts.num_tracks)

    for stream, refs in list_sources(sources, limit=limit, counts=counts, repeated=repeated):
        name = stream.listing
        draft = drafts.setdefault(name, Draft(name, name == FILES, term, Counter(), [], []))
        writer = writers.setdefault(name, PartWriter(place))
        for batch in to_batches(refs, report):
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


def _write_marker(
    place: Folder, earlier: Marker, drafts: Sequence[Draft], check: Callable[[], None], term: int
) -> None:
    keys, shared = settle(place, [part for draft in drafts for part in draft.parts], earlier.shared_keys)
    # Never lower than the present marker's term: somebody may have deleted the lock's claims, so that terms began at 1
    # again, and a marker with a lower term does not count.
    term = max(term, earlier.term)
    marker = Marker(tuple(draft.to_listing() for draft in drafts), _keys_digest(keys), shared, term)
    _require_written(place, marker.files & place.written)
    check()
    manifest_marker.write(place.path, marker)
    place.written -= marker.files


def _require_written(place: Folder, names: Collection[str]) -> None:
    """Check that this run's files are all there: a run that took over may have deleted them as left over.

    Raises:
        Stopped: a file is missing.
    """
    if missing := _first_missing(place, sorted(names)):
        raise Stopped(f"another run has removed {missing} from {shown(place.path)}; run the same command again")


def _delete_unnamed(place: Folder, left_over: set[str], check: Callable[[], None]) -> None:
    """Delete files that no marker names; stop without an error at the first that cannot be deleted.

    Only files that existed when this run began, and its own, are deleted, since another run may be listing by now. If
    another run took over before this run's marker was written, nothing is deleted: that run continues from the earlier
    marker, and needs its files.
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


def _first_missing(place: Folder, names: Sequence[str]) -> str | None:
    """Return the first of ``names`` that is not there."""
    present = _file_names(place)
    # Listings of some stores lag behind, so a name that is not listed is also asked for by itself.
    with filesystems.reading(place.path):
        return next((name for name in names if name not in present and not filesystems.exists(place.url(name))), None)


def _file_names(place: Folder) -> set[str]:
    return set(filesystems.list_files(place.path))


def _keys_digest(keys: NDArray[np.int64]) -> str:
    return hashlib.sha256(keys.astype("<i8").tobytes()).hexdigest()[:16]


def read_manifest(folder: str) -> Manifest:
    """Return the finished manifest in ``folder``, with the tracks of all its listings.

    Raises:
        SourceError: there is none, or one of its parts is gone.
        DestinationError: it cannot be read, or a newer tonearm has written it.
    """

    def read(place: Folder, marker: Marker) -> Manifest:
        if gone := _first_missing(place, marker.parts):
            raise Unreadable(
                f"the manifest in {shown(place.path)} lacks {gone}; run tonearm tag with its sources again"
            )
        parts = tuple(map(place.url, marker.parts))
        return Manifest(marker.num_tracks, marker.num_bytes, marker.skipped, parts, marker.digest, place.path)

    return _retry_on_replacement(folder, read)


def listings(folder: str) -> tuple[Listing, ...]:
    """Return what each source has listed; the source that was listed last comes last.

    A track that several sources list counts for the one that listed it last.

    Raises:
        SourceError: there is no finished manifest.
        DestinationError: it cannot be read, or a newer tonearm has written it.
    """
    return manifest_marker.read_finished(_absolute_folder(folder)).listings


def read_keys(folder: str) -> NDArray[np.int64]:
    """Return the keys of all listed tracks, int64 [tracks], sorted.

    Raises:
        SourceError: there is no finished manifest.
        DestinationError: it cannot be read, or a newer tonearm has written it.
    """
    return _retry_on_replacement(folder, lambda place, marker: _read_keys(place, marker.parts))


def _read_keys(place: Folder, names: Sequence[str]) -> NDArray[np.int64]:
    keys = [place.read(name, [KEY])[KEY].to_numpy() for name in names]
    return np.sort(np.concatenate(keys)) if keys else np.empty(0, np.int64)


def _retry_on_replacement(folder: str, read: Callable[[Folder, Marker], T]) -> T:
    """Return the result of ``read``; call it again if a part was gone because the manifest has been replaced."""
    place = Folder(_absolute_folder(folder))
    marker = manifest_marker.read_finished(place.path)
    for _ in range(NUM_TRIES):
        try:
            return read(place, marker)
        except Unreadable:
            newer = manifest_marker.read_finished(place.path)
            if newer.text == marker.text:
                raise
            marker = newer
    return read(place, marker)


def read_tracks(folder: str) -> Iterator[TrackRef]:
    """Yield all tracks of the manifest in a folder.

    If the manifest is replaced while it is read, the rest comes from the new one, and no track comes twice.

    Raises:
        SourceError: there is no finished manifest, or one of its parts is gone.
        DestinationError: it cannot be read, or a newer tonearm has written it.
    """
    place = Folder(_absolute_folder(folder))
    marker, yielded, seen = manifest_marker.read_finished(place.path), list[Digests](), np.empty(0, "S16")
    for _ in range(NUM_TRIES):
        try:
            for name in marker.parts:
                table = place.read(name)
                # A single part is read whole or not at all, so there is nothing to remember of it.
                if len(marker.parts) > 1 or len(seen):
                    uri_digests = digests(table["uri"])
                    table = table.filter(pa.array(~among(uri_digests, seen)))
                    yielded.append(uri_digests)
                yield from to_refs(table)
            return
        except Unreadable:
            newer = manifest_marker.read_finished(place.path)
            if newer.text == marker.text:
                raise
            marker, seen = newer, np.sort(np.concatenate([seen, *yielded]))
            yielded = []
    raise Unreadable(
        f"the manifest in {shown(place.path)} was replaced {NUM_TRIES} times while it was read; run the same command "
        "again"
    )


def prune(folder: str, sources: Sequence[str], *, term: int = 0, check: Callable[[], None] = lambda: None) -> int:
    """Remove the listings of ``sources``, and return how many tracks are no longer listed; no row is removed.

    Tracks that another source has listed too stay listed.

    Args:
        sources: as they were given to ``write_manifest``, or names from ``listings``; or single objects that were
            given one by one.
        term, check: see ``write_manifest``.

    Raises:
        SourceError: there is no finished manifest, or a source was never listed there; nothing is removed then.
        DestinationError: ``folder`` cannot be written, or a newer tonearm has written there.
    """
    place = Folder(_absolute_folder(folder))
    marker = manifest_marker.read_finished(place.path)
    source_names = {listing.source for listing in marker.listings}
    names = {source if source in source_names else source_name(source) for source in sources}
    single_names = names - source_names
    if single_names:
        has_files = [listing for listing in marker.listings if listing.source == FILES]
        uris = (uri for listing in has_files for part in listing.parts for uri in _read_uris(place, part))
        listed_singles = {name for name in map(source_name, uris) if name in single_names}
        if unknown := sorted(single_names - listed_singles):
            listed = ", ".join(shown(name) or "''" for name in sorted(source_names)) or "none"
            raise SourceError(f"{shown(unknown[0])} is no source of {shown(place.path)}; expected one of {listed}")
    drafts = merge(place, marker.listings, [], forgotten=names & source_names, addresses=single_names)
    _write_marker(place, marker, drafts, check, term)
    _delete_unnamed(place, marker.files, check)
    return marker.num_tracks - sum(draft.to_listing().num_tracks for draft in drafts)


def _read_uris(place: Folder, name: str) -> Iterator[str]:
    yield from place.read(name, ["uri"])["uri"].to_pylist()


def to_table(refs: Sequence[TrackRef]) -> pa.Table:
    """Return refs as a table of ``schema.MANIFEST``."""
    return pa.Table.from_batches([to_batch(refs)])


def _absolute_folder(folder: str) -> str:
    return local_path(folder) if is_local(folder) else folder.rstrip("/")
