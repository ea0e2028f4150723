"""Merge new listings of sources with the earlier listings of a manifest.

A source's listing has the tracks of when it was last read to its end, and those that limited listings added since.
Sources may overlap, but a URI has one row, in the listing that had it last. The other listings that have the URI are
said to *cover* it; when the listing with the row loses it, the row is handed over to one of them. So no track is lost
because a narrower source, such as a table of favourites, was listed in between and has shrunk.
"""

from __future__ import annotations

import dataclasses
import os
import urllib.parse
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tonearm.errors import SourceError
from tonearm.runs.manifest.manifest_marker import UNKNOWN, Listing
from tonearm.runs.manifest.manifest_parts import (
    PART_ROWS,
    Digests,
    Folder,
    Part,
    PartWriter,
    Unreadable,
    UriWriter,
    digests,
    num_bytes,
)
from tonearm.runs.places import KEY
from tonearm.runs.rows.ranking import among
from tonearm.sources.extensions import AUDIO_EXTENSIONS, extension_of, is_below_system
from tonearm.sources.listing import FILES, source_name
from tonearm.storage.uris import is_local, local_path, shown

# Limited listings, and objects that are given one by one, leave small parts; more than this many are joined.
MANY_SMALL = 8


@dataclasses.dataclass
class Draft:
    """A listing that is not in the marker yet.

    Attributes:
        folders: names of the folders and prefixes that were read to their end.
        addresses: names of the objects that were given by their own http address.
    """

    source: str
    is_complete: bool
    term: int
    skipped: Counter[str]
    parts: list[Part]
    covered: list[str]
    folders: set[str] = dataclasses.field(default_factory=set)
    addresses: set[str] = dataclasses.field(default_factory=set)

    def to_listing(self) -> Listing:
        """Return it as the marker has it."""
        return Listing(
            self.source,
            self.is_complete,
            sum(len(part.keys) for part in self.parts),
            sum(part.num_bytes for part in self.parts),
            dict(self.skipped.most_common()),
            tuple(part.name for part in self.parts),
            tuple(self.covered),
            self.term,
        )


def merge(
    folder: Folder,
    earlier: Sequence[Listing],
    drafts: Sequence[Draft],
    *,
    forgotten: Collection[str] = (),
    addresses: Collection[str] = (),
) -> list[Draft]:
    """Return the listings after ``drafts`` are added, in the order in which they were last listed.

    Args:
        earlier: the present listings.
        drafts: this run's own listings, in which no URI occurs twice.
        forgotten: sources whose earlier listings are removed.
        addresses: names of objects that are removed from those given one by one.

    Raises:
        SourceError: a file of a listing that stays is gone or damaged.
    """
    # Objects given one by one have no end that could be reached, so FILES only grows.
    replaced = {*forgotten, *(draft.source for draft in drafts if draft.is_complete and draft.source != FILES)}
    if all(listing.source in replaced for listing in earlier):
        return list(drafts)
    merging = _Merging(folder, drafts, {*addresses, *(name for draft in drafts for name in draft.addresses)})
    merging.keep([listing for listing in earlier if listing.source not in replaced])
    for listing in earlier:
        if listing.source in replaced:
            merging.let_go(listing)
    return merging.finish()


class _Uris:
    """The URIs of some files, by their sorted digests."""

    def __init__(self, parts: Iterable[Digests]) -> None:
        nonempty = [part for part in parts if len(part)]
        self.digests: Digests = np.sort(np.concatenate(nonempty)) if nonempty else np.empty(0, "S16")

    def have(self, uri_digests: Digests) -> NDArray[np.bool_]:
        """Return which of these are theirs."""
        return among(uri_digests, self.digests)


class _NowListed(_Uris):
    """The URIs that this run lists, each in one of its drafts."""

    def __init__(self, folder: Folder, drafts: Sequence[Draft]) -> None:
        files = [(number, part.name) for number, draft in enumerate(drafts) for part in draft.parts]
        per_file = [digests(folder.read(name, ["uri"])["uri"]) for _, name in files]
        uris = np.concatenate(per_file or [np.empty(0, "S16")])
        numbers = np.repeat([number for number, _ in files], [len(uri_digests) for uri_digests in per_file])
        order = np.argsort(uris)
        self.digests, self._draft_numbers = uris[order], numbers.astype(np.int32)[order]

    def draft_numbers(self, uri_digests: Digests) -> NDArray[np.int32]:
        """Return the number of the draft that has each of these, all of which are theirs."""
        return self._draft_numbers[np.searchsorted(self.digests, uri_digests)]


class _KeptListing:
    """An earlier listing that stays: the parts that are left of it, and the rows that are handed over to it."""

    def __init__(self, folder: Folder, listing: Listing, drafts: Sequence[Draft]) -> None:
        self.listing = listing
        self.draft_number = next(
            (number for number, draft in enumerate(drafts) if draft.source == listing.source), None
        )
        names = drafts[self.draft_number].covered if self.draft_number is not None else []
        self.now_covered = _Uris(_covered_digests(folder, listing, name) for name in names)
        earlier_covered = [_covered_digests(folder, listing, name) for name in listing.covered]
        self.covered = _Uris([*earlier_covered, self.now_covered.digests])
        self.kept_parts: list[Part] = []
        self.writer = PartWriter(folder)
        self.newly_covered = UriWriter(folder)
        self.handed_over: list[Digests] = []


class _Merging:
    def __init__(self, folder: Folder, drafts: Sequence[Draft], addresses: Collection[str]) -> None:
        self.folder, self.drafts, self.addresses = folder, drafts, addresses
        self.keepers: list[_KeptListing] = []
        self.prefixes = {prefix for draft in drafts for name in draft.folders for prefix in _uri_prefixes(name)}
        self.now_listed = _NowListed(folder, drafts)

    def keep(self, listings: Sequence[Listing]) -> None:
        """Keep ``listings``, without the tracks that this run lists and those that no longer exist."""
        self.keepers = [_KeptListing(self.folder, listing, self.drafts) for listing in listings]
        for keeper in self.keepers:
            for name in keeper.listing.parts:
                self._keep_part(keeper, name)

    def _keep_part(self, keeper: _KeptListing, name: str) -> None:
        source = keeper.listing.source
        try:
            table = _read_needed(self.folder, keeper.listing, name)
        except SourceError:
            # An unknown source cannot be listed again to repair it. This run lists the folder that it most likely was,
            # so continue without the part.
            if source == UNKNOWN and self.prefixes:
                return
            raise
        uri_digests = digests(table["uri"])
        is_listed = self.now_listed.have(uri_digests)
        if is_listed.any() and source != UNKNOWN:
            # This listing now covers the rows that another source has listed in this run.
            elsewhere = is_listed.copy()
            numbers = self.now_listed.draft_numbers(uri_digests[is_listed])
            elsewhere[is_listed] = numbers != (-1 if keeper.draft_number is None else keeper.draft_number)
            elsewhere &= ~keeper.covered.have(uri_digests)
            for uri in table["uri"].filter(pa.array(elsewhere)).to_pylist():
                keeper.newly_covered.add(uri)
        is_gone = self._is_gone(table["uri"], ~is_listed)
        is_leaving = self._is_leaving(source, table["uri"], ~is_listed & ~is_gone)
        if is_leaving.any():
            self._hand_over(table.filter(pa.array(is_leaving)), uri_digests[is_leaving])
        is_staying = ~is_listed & ~is_gone & ~is_leaving
        if is_staying.all():
            keeper.kept_parts.append(Part(name, table[KEY].to_numpy(), num_bytes(table), False))
        elif is_staying.any():
            keeper.writer.add(table.filter(pa.array(is_staying)))

    def let_go(self, listing: Listing) -> None:
        """Remove ``listing``: rows that other listings cover are handed over to them, the others are dropped."""
        if not any(len(keeper.covered.digests) for keeper in self.keepers):
            return
        for name in listing.parts:
            try:
                table = self.folder.read(name)
            # A part of a listing that is being removed: its rows are listed again by now, or dropped.
            except Unreadable:
                continue
            uri_digests = digests(table["uri"])
            is_free = ~self.now_listed.have(uri_digests)
            is_free &= ~self._is_gone(table["uri"], is_free)
            self._hand_over(table.filter(pa.array(is_free)), uri_digests[is_free])

    def _hand_over(self, table: pa.Table, uri_digests: Digests) -> None:
        """Give each row to the latest of the listings that cover it."""
        is_free = np.ones(len(uri_digests), bool)
        for keeper in reversed(self.keepers):
            is_covered = is_free & keeper.covered.have(uri_digests)
            if is_covered.any():
                keeper.writer.add(table.filter(pa.array(is_covered)))
                keeper.handed_over.append(uri_digests[is_covered])
                is_free &= ~is_covered

    def _is_gone(self, uris: pa.ChunkedArray, candidates: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which ``candidates`` no longer exist, since the folder above was read to its end without them."""
        is_gone = np.zeros(len(uris), bool)
        for prefix in self.prefixes if candidates.any() else ():
            below = np.flatnonzero(_starts_with(uris, prefix) & candidates)
            for place in below.tolist():
                is_gone[place] = _has_gone(uris[place].as_py(), prefix)
        return is_gone

    def _is_leaving(self, source: str, uris: pa.ChunkedArray, candidates: NDArray[np.bool_]) -> NDArray[np.bool_]:
        is_leaving = np.zeros(len(uris), bool)
        # A folder that is now listed by name was most likely what 0.1.0 listed, so its rows become that folder's.
        if source == UNKNOWN:
            for prefix in self.prefixes:
                is_leaving |= _starts_with(uris, prefix)
        elif source == FILES and self.addresses:
            is_leaving = np.array([source_name(uri) in self.addresses for uri in uris.to_pylist()], bool)
        return is_leaving & candidates

    def finish(self) -> list[Draft]:
        """Write the parts that have changed; return all listings."""
        earlier_drafts = []
        for keeper in self.keepers:
            parts, covered = self._joined_parts(keeper), [*self._still_covered(keeper), *keeper.newly_covered.close()]
            listing = keeper.listing
            if keeper.draft_number is None:
                earlier_drafts.append(
                    Draft(
                        listing.source,
                        listing.is_complete,
                        listing.term,
                        Counter(dict(listing.skipped)),
                        parts,
                        covered,
                    )
                )
                continue
            draft = self.drafts[keeper.draft_number]
            draft.is_complete = draft.is_complete or listing.is_complete
            draft.skipped |= Counter(dict(listing.skipped))
            draft.parts, draft.covered = [*parts, *draft.parts], [*covered, *draft.covered]
        return [*earlier_drafts, *self.drafts]

    def _joined_parts(self, keeper: _KeptListing) -> list[Part]:
        small = [part for part in keeper.kept_parts if len(part.keys) < PART_ROWS // 2]
        if len(small) > MANY_SMALL:
            keeper.kept_parts = [part for part in keeper.kept_parts if len(part.keys) >= PART_ROWS // 2]
            for part in small:
                keeper.writer.add(_read_needed(self.folder, keeper.listing, part.name))
        return [*keeper.kept_parts, *keeper.writer.close()]

    def _still_covered(self, keeper: _KeptListing) -> list[str]:
        """Return the files of URIs that the listing covered before and still covers; write changed ones again."""
        handed_over, names = _Uris(keeper.handed_over), list[str]()
        for name in keeper.listing.covered:
            uris = self.folder.read(name, ["uri"])["uri"]
            uri_digests = digests(uris)
            is_listed = self.now_listed.have(uri_digests)
            is_staying = (
                ~handed_over.have(uri_digests)
                & ~keeper.now_covered.have(uri_digests)
                & ~self._is_gone(uris, ~is_listed)
            )
            if keeper.draft_number is not None and is_listed.any():
                numbers = self.now_listed.draft_numbers(uri_digests[is_listed])
                is_staying[is_listed] &= numbers != keeper.draft_number
            if is_staying.all():
                names.append(name)
                continue
            for uri in uris.filter(pa.array(is_staying)).to_pylist():
                keeper.newly_covered.add(uri)
        return names


def _read_needed(folder: Folder, listing: Listing, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of a file of ``listing``, which must not be missing.

    Raises:
        SourceError: it is gone or damaged; the message names the source to list again.
    """
    try:
        return folder.read(name, columns)
    except Unreadable as error:
        source = "" if listing.source == UNKNOWN else f" ({shown(listing.source)})"
        raise SourceError(f"{error.message}{source}") from None


def _covered_digests(folder: Folder, listing: Listing, name: str) -> Digests:
    return digests(_read_needed(folder, listing, name, ["uri"])["uri"])


def _uri_prefixes(name: str) -> list[str]:
    """Return how the URIs below a folder or prefix begin."""
    if not is_local(name):
        return [f"{name}/"]
    # Local tracks may be listed as paths or as file:// URLs; a folder given as a URL lists only the latter.
    path = local_path(name).rstrip("/") + "/"
    quoted = "file://" + urllib.parse.quote(os.fsencode(path))
    return [quoted] if name.startswith("file://") else [path, quoted]


def _starts_with(uris: pa.ChunkedArray, prefix: str) -> NDArray[np.bool_]:
    return np.asarray(pc.starts_with(uris, pattern=prefix).to_numpy(zero_copy_only=False), bool)


def _has_gone(uri: str, prefix: str) -> bool:
    """Return whether an object below ``prefix`` that the complete listing does not have is really gone.

    A table may name files that a listing leaves out, such as one without a known extension or one behind a link. So
    local files are looked at, and of remote objects only those are gone that a listing would have had.
    """
    if is_local(uri):
        try:
            os.lstat(local_path(uri))
        except (FileNotFoundError, NotADirectoryError):
            return True
        # Not allowed to look, or a failing disk: nothing says that it is gone.
        except OSError:
            return False
        return False
    return extension_of(uri) in AUDIO_EXTENSIONS and not is_below_system(uri[len(prefix) :].split("/"))
