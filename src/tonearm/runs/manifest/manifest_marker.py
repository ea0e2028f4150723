"""The marker of a manifest: which Parquet files count, and which source each of them was listed from.

Format 2 is a list of listings, one for each source, in the order in which they were last listed. The marker of 0.1.0
names files alone: it is read as one listing of an unknown source.

A run that holds a lock writes its marker under a name of its term too, and of those that are there the one of the
highest term counts. So what a run that was displaced had still under way hides nothing when it lands::

    _manifest.json                 the last one that was written, for whoever reads a destination without tonearm
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
UNKNOWN = ""  # the source of what 0.1.0 listed


@dataclasses.dataclass(frozen=True)
class Listing:
    """What one source listed.

    Attributes:
        source: see ``sources.source_name``; ``sources.FILES`` for objects given one by one, ``UNKNOWN`` of 0.1.0.
        is_complete: whether these are all tracks that the source had when it was last read to its end, and those that
            limited listings have added since. False while there were limited listings alone.
        num_bytes: of the tracks whose size the source tells.
        skipped: files that are not audio, by extension.
        parts: the names of its files, rows of ``schema.MANIFEST``. No two listings have a row of the same URI.
        covered: the names of files with one column ``uri``: what it lists too and a later listing has the row of.
        term: of the run that listed last.
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
    """What a marker says.

    Attributes:
        digest: 16 hex digits of the set of keys of all that is listed.
        shared_keys: keys on which two objects once met, so that none of them has it.
        term: of the lock under which it was written; 0 without one.
        text: the marker as it was read, to see whether it is another one now.
    """

    listings: tuple[Listing, ...] = ()
    digest: str = ""
    shared_keys: tuple[int, ...] = ()
    term: int = 0
    text: bytes = b""

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the files of all that is listed."""
        return tuple(part for listing in self.listings for part in listing.parts)

    @property
    def files(self) -> set[str]:
        """The names of all files that it needs."""
        return {*self.parts, *(name for listing in self.listings for name in listing.covered)}

    @property
    def num_tracks(self) -> int:
        return sum(listing.num_tracks for listing in self.listings)

    @property
    def num_bytes(self) -> int:
        return sum(listing.num_bytes for listing in self.listings)

    @property
    def skipped(self) -> dict[str, int]:
        """Files that are not audio by extension, the most frequent first, as each source counted them."""
        total: Counter[str] = Counter()
        for listing in self.listings:
            total.update(listing.skipped)
        return dict(total.most_common())


def read(folder: str) -> Marker | None:
    """Return the marker in ``folder`` that counts; None where there is none.

    Raises:
        DestinationError: it cannot be read, is damaged, or a newer tonearm has written it.
    """
    for _ in range(MAX_LOOKS):
        common, names = _read(folder, MARKER), of_terms(folder)
        if not names or (common.marker is not None and common.marker.term > term_of(names[-1])):
            return common.marker_of(folder)
        last = _read(folder, names[-1])
        if last.marker is not None:
            return last.marker
        if of_terms(folder)[-1:] == names[-1:]:
            # What it listed is in the other one only where that is of the same term: never in an older one.
            is_same = common.marker is not None and common.marker.term == term_of(names[-1])
            return (common if is_same or not last.is_there else last).marker_of(folder)
    raise DestinationError(f"the manifest in {shown(folder)} is replaced again and again; run the command again")


def of_terms(folder: str) -> list[str]:
    """Return the names of the markers that say their term in it, the highest last.

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
    """What there is under the name of a marker; ``marker`` is None where it is damaged, or not there."""

    name: str
    is_there: bool
    marker: Marker | None = None

    def marker_of(self, folder: str) -> Marker | None:
        """Return the marker; None only where there is none.

        Raises:
            DestinationError: it is damaged. Taken for none, it would hide all sources but those listed next.
        """
        if self.is_there and self.marker is None:
            raise DestinationError(
                f"{shown(posixpath.join(folder, self.name))} is not what tonearm writes, so it is not known what is "
                "listed; nothing is lost. Put that file back, or delete it and run tonearm tag again with every source "
                "of this destination"
            )
        return self.marker


def _read(folder: str, name: str) -> _NamedMarker:
    url = posixpath.join(folder, name)
    with filesystems.reading(url):
        try:
            text = filesystems.read_bytes(url)
        except (FileNotFoundError, NotADirectoryError):
            return _NamedMarker(name, is_there=False)
    return _NamedMarker(name, True, _parsed(folder, text))


def _parsed(folder: str, text: bytes) -> Marker | None:
    try:
        values = json.loads(text)
        number = values.get("format", 1)
        if isinstance(number, int) and number > FORMAT:
            raise DestinationError(
                f"the manifest in {shown(folder)} is of format {number}, which a newer tonearm has written; this one "
                f"reads up to format {FORMAT}: use the newer one, or give another destination"
            )
        listings = tuple(map(_listing, values["listings"])) if number == FORMAT else (_unknown(values),)
        shared = tuple(map(int, values.get("shared_keys", ())))
        marker = Marker(listings, str(values["digest"]), shared, _of_kind(int, values.get("term", 0)), text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return marker if all(map(_is_name, marker.files)) else None


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
    if marker.term:
        filesystems.write_text(posixpath.join(folder, f"_manifest-{marker.term:012d}.json"), text)
    filesystems.write_text(posixpath.join(folder, MARKER), text)


def _listing(values: Mapping[str, Any]) -> Listing:
    return Listing(
        _of_kind(str, values["source"]),
        _of_kind(bool, values["is_complete"]),
        _of_kind(int, values["num_tracks"]),
        _of_kind(int, values["num_bytes"]),
        _of_kind(dict, values["skipped"]),
        _names(values["parts"]),
        _names(values["covered"]),
        _of_kind(int, values["term"]),
    )


def _unknown(values: Mapping[str, Any]) -> Listing:
    counts = _of_kind(int, values["num_tracks"]), _of_kind(int, values["num_bytes"])
    return Listing(UNKNOWN, True, *counts, _of_kind(dict, values["skipped"]), _names(values["parts"]))


def _of_kind(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"got {value!r}, expected {kind.__name__}")
    return value


def _names(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(_of_kind(str, name) for name in _of_kind(list, values))


def _is_name(name: str) -> bool:
    """Return whether ``name`` is that of a file in the folder itself, so that a marker leads nowhere else."""
    return name == posixpath.basename(name) and name not in ("", ".", "..") and "\0" not in name
