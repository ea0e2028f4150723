"""What becomes of the earlier listings of a manifest when sources are listed again.

Listed is what each source had when it was last read to its end, and what limited listings have added since. Sources may
overlap, yet a URI has one row: that of the listing that has it last. The others that have it too are said to cover it;
when the row's own listing loses it, the row goes to one of those. So nothing is hidden because a narrower source, such
as a table of favourites, was listed in between and has shrunk.
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
    KEY,
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
from tonearm.runs.rows.ranking import among
from tonearm.sources.extensions import AUDIO_EXTENSIONS, extension_of, is_below_system
from tonearm.sources.listing import FILES, source_name
from tonearm.storage.uris import is_local, local_path, shown

# Limited listings, and objects that are given one by one, leave small parts; with more than these, they are joined.
MANY_SMALL = 8


@dataclasses.dataclass
class Draft:
    """A listing that is not in the marker yet.

    Attributes:
        folders: the names of folders and prefixes that were read to their end.
        addresses: the names of what was given by its own http address.
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
    """Return all that is listed once ``drafts`` are, in the order in which it was last listed.

    Args:
        earlier: what is listed before.
        drafts: this run's own listings, no URI twice.
        forgotten: sources whose earlier listings go.
        addresses: names of objects that go from those given one by one.

    Raises:
        SourceError: a file of a listing that stays is gone or damaged.
    """
    replaced = {*forgotten, *(draft.source for draft in drafts if draft.is_complete and draft.source != FILES)}
    if all(listing.source in replaced for listing in earlier):
        return list(drafts)
    merging = _Merging(folder, drafts, {*addresses, *(name for draft in drafts for name in draft.addresses)})
    merging.keep([listing for listing in earlier if listing.source not in replaced])
    for listing in earlier:
        if listing.source in replaced:
            merging.let_go(listing)
    return merging.finish()


class _Keeper:
    """An earlier listing that stays: what is left of it, and what comes to it."""

    def __init__(self, folder: Folder, listing: Listing, drafts: Sequence[Draft]) -> None:
        self.listing = listing
        self.draft = next((place for place, draft in enumerate(drafts) if draft.source == listing.source), None)
        own = drafts[self.draft].covered if self.draft is not None else []
        self.now_covered = _sorted([digests(_needed(folder, listing, name, ["uri"])["uri"]) for name in own])
        before = [digests(_needed(folder, listing, name, ["uri"])["uri"]) for name in listing.covered]
        self.covered = _sorted([*before, self.now_covered])
        self.kept: list[Part] = []
        self.writer = PartWriter(folder)
        self.newly_covered = UriWriter(folder)
        self.handed: list[Digests] = []


class _Merging:
    def __init__(self, folder: Folder, drafts: Sequence[Draft], addresses: Collection[str]) -> None:
        self.folder, self.drafts, self.addresses = folder, drafts, addresses
        self.keepers: list[_Keeper] = []
        self.prefixes = {prefix for draft in drafts for name in draft.folders for prefix in _prefixes(name)}
        found = [
            (digests(folder.read(part.name, ["uri"])["uri"]), place)
            for place, draft in enumerate(drafts)
            for part in draft.parts
        ]
        uris = np.concatenate([each for each, _ in found]) if found else np.empty(0, "S16")
        order = np.argsort(uris)
        self.uris = uris[order]
        self.owners = np.repeat([place for _, place in found], [len(each) for each, _ in found]).astype(np.int32)[order]

    def keep(self, listings: Sequence[Listing]) -> None:
        """Take out of ``listings`` what is listed now, and what is no longer there."""
        self.keepers = [_Keeper(self.folder, listing, self.drafts) for listing in listings]
        for keeper in self.keepers:
            for name in keeper.listing.parts:
                self._keep(keeper, name)

    def _keep(self, keeper: _Keeper, name: str) -> None:
        source = keeper.listing.source
        try:
            table = _needed(self.folder, keeper.listing, name)
        except SourceError:
            if source == UNKNOWN and self.prefixes:
                return  # nobody can list an unknown source again, so the run that was asked to mend it goes on without
            raise
        marks = digests(table["uri"])
        is_listed = among(marks, self.uris)
        if is_listed.any() and source != UNKNOWN:
            elsewhere = is_listed.copy()
            owners = self.owners[np.searchsorted(self.uris, marks[is_listed])]
            elsewhere[is_listed] = owners != (-1 if keeper.draft is None else keeper.draft)
            elsewhere &= ~among(marks, keeper.covered)
            for uri in table["uri"].filter(pa.array(elsewhere)).to_pylist():
                keeper.newly_covered.add(uri)
        is_gone = self._gone(table["uri"], ~is_listed)
        leaves = self._leaving(source, table["uri"], ~is_listed & ~is_gone)
        if leaves.any():
            self._hand_over(table.filter(pa.array(leaves)), marks[leaves])
        stays = ~is_listed & ~is_gone & ~leaves
        if stays.all():
            keeper.kept.append(Part(name, table[KEY].to_numpy(), num_bytes(table), False))
        elif stays.any():
            keeper.writer.add(table.filter(pa.array(stays)))

    def let_go(self, listing: Listing) -> None:
        """Hand what ``listing`` alone has the row of, and others cover, to those; its other rows go out of sight."""
        if not any(len(keeper.covered) for keeper in self.keepers):
            return
        for name in listing.parts:
            try:
                table = self.folder.read(name)
            except Unreadable:  # what it held is listed now, or goes
                continue
            marks = digests(table["uri"])
            is_free = ~among(marks, self.uris)
            is_free &= ~self._gone(table["uri"], is_free)
            self._hand_over(table.filter(pa.array(is_free)), marks[is_free])

    def _hand_over(self, table: pa.Table, marks: Digests) -> None:
        """Give rows to the listing that was made last of those that cover them."""
        is_free = np.ones(len(marks), bool)
        for keeper in reversed(self.keepers):
            takes = is_free & among(marks, keeper.covered)
            if takes.any():
                keeper.writer.add(table.filter(pa.array(takes)))
                keeper.handed.append(marks[takes])
                is_free &= ~takes

    def _gone(self, uris: pa.ChunkedArray, asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which of the ``asked`` are no longer there, as the complete listing of a folder above them tells."""
        is_gone = np.zeros(len(uris), bool)
        for prefix in self.prefixes if asked.any() else ():
            below = np.flatnonzero(_starts(uris, prefix) & asked)
            for place in below.tolist():
                is_gone[place] = _is_gone(uris[place].as_py(), prefix)
        return is_gone

    def _leaving(self, source: str, uris: pa.ChunkedArray, asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        leaves = np.zeros(len(uris), bool)
        if source == UNKNOWN:  # most likely of that folder itself
            for prefix in self.prefixes:
                leaves |= _starts(uris, prefix)
        elif source == FILES and self.addresses:
            leaves = np.array([source_name(uri) in self.addresses for uri in uris.to_pylist()], bool)
        return leaves & asked

    def finish(self) -> list[Draft]:
        """Write what has changed; return all listings."""
        made = []
        for keeper in self.keepers:
            parts, covered = self._join(keeper), [*self._still_covered(keeper), *keeper.newly_covered.close()]
            old = keeper.listing
            if keeper.draft is None:
                made.append(Draft(old.source, old.is_complete, old.term, Counter(dict(old.skipped)), parts, covered))
                continue
            own = self.drafts[keeper.draft]
            own.is_complete = own.is_complete or old.is_complete
            own.skipped |= Counter(dict(old.skipped))
            own.parts, own.covered = [*parts, *own.parts], [*covered, *own.covered]
        return [*made, *self.drafts]

    def _join(self, keeper: _Keeper) -> list[Part]:
        small = [part for part in keeper.kept if len(part.keys) < PART_ROWS // 2]
        if len(small) > MANY_SMALL:
            keeper.kept = [part for part in keeper.kept if len(part.keys) >= PART_ROWS // 2]
            for part in small:
                keeper.writer.add(_needed(self.folder, keeper.listing, part.name))
        return [*keeper.kept, *keeper.writer.close()]

    def _still_covered(self, keeper: _Keeper) -> list[str]:
        """Return the files of what the listing covered before and covers still."""
        handed, names = _sorted(keeper.handed), []
        for name in keeper.listing.covered:
            uris = self.folder.read(name, ["uri"])["uri"]
            marks = digests(uris)
            is_listed = among(marks, self.uris)
            stays = ~among(marks, handed) & ~among(marks, keeper.now_covered) & ~self._gone(uris, ~is_listed)
            if keeper.draft is not None and is_listed.any():
                owners = self.owners[np.searchsorted(self.uris, marks[is_listed])]
                stays[is_listed] &= owners != keeper.draft
            if stays.all():
                names.append(name)
                continue
            for uri in uris.filter(pa.array(stays)).to_pylist():
                keeper.newly_covered.add(uri)
        return names


def _needed(folder: Folder, listing: Listing, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of a file without which ``listing`` is not whole.

    Raises:
        SourceError: it is gone or damaged; names the source to list again.
    """
    try:
        return folder.read(name, columns)
    except Unreadable as error:
        source = "" if listing.source == UNKNOWN else f" ({shown(listing.source)})"
        raise SourceError(f"{error.message}{source}") from None


def _sorted(parts: Iterable[Digests]) -> Digests:
    found = [part for part in parts if len(part)]
    return np.sort(np.concatenate(found)) if found else np.empty(0, "S16")


def _prefixes(name: str) -> list[str]:
    """Return how the URIs below a folder or prefix begin."""
    if not is_local(name):
        return [f"{name}/"]
    path = local_path(name).rstrip("/") + "/"
    quoted = "file://" + urllib.parse.quote(os.fsencode(path))
    return [quoted] if name.startswith("file://") else [path, quoted]


def _starts(uris: pa.ChunkedArray, prefix: str) -> NDArray[np.bool_]:
    return np.asarray(pc.starts_with(uris, pattern=prefix).to_numpy(zero_copy_only=False), bool)


def _is_gone(uri: str, prefix: str) -> bool:
    """Return whether what lies below ``prefix``, and its complete listing does not have, is no longer there.

    A table may name what a listing passes over: a file without a known extension, or one behind a link.
    """
    if is_local(uri):
        try:
            os.lstat(local_path(uri))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False
    return extension_of(uri) in AUDIO_EXTENSIONS and not is_below_system(uri[len(prefix) :].split("/"))
