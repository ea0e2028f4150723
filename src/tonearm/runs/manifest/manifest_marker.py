"""The marker of a manifest: which Parquet files count, and which source each of them was listed from.

Format 2 is a list of listings, one for each source, in the order in which they were last listed. The marker of 0.1.0
has only file names: it is read as one listing of an unknown source.

A run that holds a lock also writes its marker under a name with its term, and the marker of the highest term counts. So
the late write of a run that has lost the lock cannot hide what its successor has listed::

    _manifest.json                 the last one that was written, for programs that read a destination without tonearm
    _manifest-000000000007.json    the one of term 7
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from tonearm.errors import DestinationError, SourceError
from tonearm.storage import filesystems
from tonearm.storage.uris import shown

T = TypeVar("T")

MARKER, FORMAT = "_manifest.json", 2
OF_TERM = re.compile(r"^_manifest-(\d{12})\.json$")
MAX_LOOKS = 10
# The source of what version 0.1.0 listed, which did not record sources.
UNKNOWN = ""


@dataclasses.dataclass(frozen=True)
class Listing:
    """What one source listed.

    Attributes:
        source: see ``sources.source_name``; ``sources.FILES`` for objects given one by one, ``UNKNOWN`` of 0.1.0.
        is_complete: whether the source was ever read to its end: then these are all tracks that it had at that time,
            and those that limited listings have added since.
        num_bytes: sum over the tracks whose size the source tells.
        skipped: files that are not audio, by extension.
        parts: names of its files with rows of ``schema.MANIFEST``. No two listings have a row for the same URI.
        covered: names of its files with one column ``uri``: tracks of this source whose row is in a later listing.
        term: the term of the run that listed it last.
    """

    source: str
    is_complete: bool
    num_tracks: int
    num_bytes: int
    skipped: Mapping[str, int]
    parts: tuple[str, ...]
    covered: tuple[str, ...] = ()
    term: int = 0


@dataclasses.dataclass(frozen=True)
class Marker:
    """The content of a marker.

    Attributes:
        digest: 16 hex digits of the set of keys of all listed tracks.
        shared_keys: keys that two objects once had at the same time; no object may have them any more.
        term: of the lock under which it was written; 0 without one.
        text: the file as it was read, to find out later whether it has been replaced.
    """

    listings: tuple[Listing, ...] = ()
    digest: str = ""
    shared_keys: tuple[int, ...] = ()
    term: int = 0
    text: bytes = b""

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the files with the rows of all listings."""
        return tuple(part for listing in self.listings for part in listing.parts)

    @property
    def files(self) -> set[str]:
        """The names of all files that the manifest consists of."""
        return {*self.parts, *(name for listing in self.listings for name in listing.covered)}

    @property
    def num_tracks(self) -> int:
        return sum(listing.num_tracks for listing in self.listings)

    @property
    def num_bytes(self) -> int:
        return sum(listing.num_bytes for listing in self.listings)

    @property
    def skipped(self) -> dict[str, int]:
        """Files that are not audio, by extension, summed over the sources, the most frequent first."""
        total: Counter[str] = Counter()
        for listing in self.listings:
            total.update(listing.skipped)
        return dict(total.most_common())


def read(folder: str) -> Marker | None:
    """Return the marker in ``folder`` that counts; None if there is none.

    Raises:
        DestinationError: it cannot be read, is damaged, or a newer tonearm has written it.
    """
    # Between listing the names and reading one, a run may write a marker of a higher term and delete the older ones.
    for _ in range(MAX_LOOKS):
        unnumbered, names = _read_named(folder, MARKER), of_terms(folder)
        if not names or (unnumbered.marker is not None and unnumbered.marker.term > term_of(names[-1])):
            return unnumbered.marker_of(folder)
        latest = _read_named(folder, names[-1])
        if latest.marker is not None:
            return latest.marker
        if of_terms(folder)[-1:] == names[-1:]:
            # The marker of the highest term is damaged. The unnumbered one replaces it only if it is of the same term:
            # an older one would hide what was listed since.
            is_same = unnumbered.marker is not None and unnumbered.marker.term == term_of(names[-1])
            return (unnumbered if is_same or not latest.is_there else latest).marker_of(folder)
    raise DestinationError(
        f"the manifest in {shown(folder)} was replaced {MAX_LOOKS} times while it was read; run the command again"
    )


def of_terms(folder: str) -> list[str]:
    """Return the names of the markers that have their term in the name, the highest last.

    Raises:
        DestinationError: the folder cannot be read.
    """
    with filesystems.reading(folder):
        try:
            return sorted(name for name in filesystems.list_files(folder) if OF_TERM.match(name))
        except NotADirectoryError:
            return []


def term_of(name: str) -> int:
    """Return the term in the name of a marker."""
    match = OF_TERM.match(name)
    return int(match[1]) if match is not None else 0


@dataclasses.dataclass(frozen=True)
class _NamedMarker:
    """The file of a marker's name; ``marker`` is None if it is damaged or missing."""

    name: str
    is_there: bool
    marker: Marker | None = None

    def marker_of(self, folder: str) -> Marker | None:
        """Return the marker; None only if there is no file.

        Raises:
            DestinationError: it is damaged. Ignoring it would drop every source that is not listed again now.
        """
        if self.is_there and self.marker is None:
            raise DestinationError(
                f"{shown(posixpath.join(folder, self.name))} is not what tonearm writes, so it is not known what is "
                "listed; nothing is lost. Put that file back, or delete it and run tonearm tag again with every source "
                "of this destination"
            )
        return self.marker


def _read_named(folder: str, name: str) -> _NamedMarker:
    url = posixpath.join(folder, name)
    with filesystems.reading(url):
        try:
            text = filesystems.read_bytes(url)
        except (FileNotFoundError, NotADirectoryError):
            return _NamedMarker(name, is_there=False)
    return _NamedMarker(name, True, _parse_marker(folder, text))


def _parse_marker(folder: str, text: bytes) -> Marker | None:
    try:
        values = json.loads(text)
        format_number = values.get("format", 1)
        if isinstance(format_number, int) and format_number > FORMAT:
            raise DestinationError(
                f"the manifest in {shown(folder)} is of format {format_number}, which a newer tonearm has written; "
                f"this one reads up to format {FORMAT}: use the newer one, or give another destination"
            )
        listings = (
            tuple(map(_listing_from_json, values["listings"]))
            if format_number == FORMAT
            else (_listing_of_0_1_0(values),)
        )
        shared_keys = tuple(map(int, values.get("shared_keys", ())))
        marker = Marker(listings, str(values["digest"]), shared_keys, _of_kind(int, values.get("term", 0)), text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return marker if all(map(_is_file_name, marker.files)) else None


def read_finished(folder: str) -> Marker:
    """Return the marker in ``folder``.

    Raises:
        SourceError: there is none.
        DestinationError: as ``read``.
    """
    marker = read(folder)
    if marker is None:
        raise SourceError(f"no finished manifest in {shown(folder)}; run tonearm tag with its sources again")
    return marker


def write(folder: str, marker: Marker) -> None:
    """Write the marker, whole or not at all.

    Raises:
        DestinationError: ``folder`` cannot be written.
    """
    # The totals follow from the listings; they are there for readers other than tonearm, and for 0.1.0.
    values = {
        "format": FORMAT,
        "num_tracks": marker.num_tracks,
        "num_bytes": marker.num_bytes,
        "skipped": marker.skipped,
        "parts": marker.parts,
        "digest": marker.digest,
        "listings": [dataclasses.asdict(listing) for listing in marker.listings],
        "shared_keys": marker.shared_keys,
        "term": marker.term,
    }
    text = json.dumps(values, indent=1)
    # The numbered one first: it is the one that counts.
    if marker.term:
        filesystems.write_text(posixpath.join(folder, f"_manifest-{marker.term:012d}.json"), text)
    filesystems.write_text(posixpath.join(folder, MARKER), text)


def _listing_from_json(values: Mapping[str, Any]) -> Listing:
    return Listing(
        _of_kind(str, values["source"]),
        _of_kind(bool, values["is_complete"]),
        _of_kind(int, values["num_tracks"]),
        _of_kind(int, values["num_bytes"]),
        _of_kind(dict, values["skipped"]),
        _file_names(values["parts"]),
        _file_names(values["covered"]),
        _of_kind(int, values["term"]),
    )


def _listing_of_0_1_0(values: Mapping[str, Any]) -> Listing:
    num_tracks_and_bytes = _of_kind(int, values["num_tracks"]), _of_kind(int, values["num_bytes"])
    return Listing(
        UNKNOWN, True, *num_tracks_and_bytes, _of_kind(dict, values["skipped"]), _file_names(values["parts"])
    )


def _of_kind(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"got {value!r}, expected {kind.__name__}")
    return value


def _file_names(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(_of_kind(str, name) for name in _of_kind(list, values))


def _is_file_name(name: str) -> bool:
    """Return whether ``name`` is a file directly in the folder, so that no marker can point elsewhere."""
    return name == posixpath.basename(name) and name not in ("", ".", "..") and "\0" not in name
