"""Reading ``tracks/*.parquet`` a batch at a time: one row for each listed track, however many rows there are.

A track may have several rows, of which one counts (``ranking``), and ``tracks/`` keeps the rows of files that have been
deleted, renamed or replaced, which the manifest no longer lists. Rows that do not count are never shown, and rows that
are not listed only when asked for. A file whose two-phase mark is still *pending* is left out: its tracks are tagged
again by the next run.

Readers take no lock. A scan first decides which rows count, from three small columns, and then reads them; where a run,
a compaction or a prune has changed a file in between, it decides again and goes on with the tracks that are left.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from tonearm.errors import DestinationError, SourceError
from tonearm.heads import PUBLISHED, Head, by_name, heads_among
from tonearm.runs.destination import Destination
from tonearm.runs.manifest import manifest
from tonearm.runs.places import KEY
from tonearm.runs.rows import finished_rows, schema, track_files
from tonearm.runs.rows.ranking import RANKED, RankedRows, Ranking, among
from tonearm.runs.rows.track_files import TrackFile
from tonearm.storage import filesystems
from tonearm.storage.uris import shown

BATCH_ROWS = 4096
# One batch is decoded while one is in use; the next file is opened meanwhile. More only costs memory.
BATCH_READAHEAD = 2
FRAGMENT_READAHEAD = 2
EMBEDDINGS = tuple(head.embedding for head in PUBLISHED.values())
# A listing takes minutes at least, so the manifest does not change more often while it is read.
LISTING_LOOKS = 5
# The name under which a filter's result stands beside the columns.
_PASSES = "__passes"


@dataclasses.dataclass(frozen=True)
class _State:
    """The rows of each finished file and the names of its columns, and which rows count, listed or not."""

    ranking: Ranking
    files: Mapping[TrackFile, tuple[RankedRows, tuple[str, ...]]]
    counting: Sequence[NDArray[np.bool_]]


@dataclasses.dataclass(frozen=True)
class ListedRows:
    """Which rows of a destination count, as of one moment; what ``scan`` starts from.

    Attributes:
        keys: int64 [tracks], sorted: the tracks that a scan shows.
        num_outranked: rows that do not count, because another one of their track does.
        num_unlisted: rows that would count, of tracks that are no longer listed; 0 where those are shown too.
    """

    keys: NDArray[np.int64]
    num_outranked: int
    num_unlisted: int
    _state: _State = dataclasses.field(repr=False, compare=False)

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads besides the published ones that rows have, in the order of the files that have them first."""
        of_files = dict.fromkeys(columns for _, columns in self._state.files.values())
        return tuple(by_name(*map(heads_among, of_files)).values())

    @property
    def num_counting(self) -> int:
        """How many rows count, listed or not: one for each key."""
        return sum(int(np.count_nonzero(counts)) for counts in self._state.counting)


class _ChangedError(Exception):
    """A file is gone, or not what it was when it was decided which of its rows count (``is_mismatch``)."""

    def __init__(self, *, is_mismatch: bool) -> None:
        super().__init__()
        self.is_mismatch = is_mismatch


def listed_rows(destination: str, *, unlisted: bool = False) -> ListedRows:
    """Return which rows of ``destination`` count and are listed.

    All rows that count are taken for listed where no listing has been finished. Holds some 20 bytes a row,
    and as much again while it decides.

    Args:
        destination: a folder or an object-store prefix that ``tonearm tag`` has written.
        unlisted: take the tracks that are no longer listed too.

    Raises:
        DestinationError: no tracks, or a file that cannot be read.
        SourceError: the manifest is damaged.
    """
    # The manifest first: a run lists before it tags, so a row is never shown that is older than the listing.
    listed = None if unlisted else read_listed(destination)
    state = _decide(destination)
    if not state.files:
        raise DestinationError(
            f"{destination}: no tracks here (expected {Destination(destination).tracks}/*.parquet); "
            f"give a destination that `tonearm tag SOURCE --out {destination}` has written"
        )
    rows = zip(state.files.values(), state.counting, strict=True)
    keys = np.sort(np.concatenate([ranked.keys[counts] for (ranked, _), counts in rows]))
    in_sight = keys if listed is None else keys[among(keys, listed)]
    num_rows = sum(len(ranked.keys) for ranked, _ in state.files.values())
    return ListedRows(in_sight, num_rows - len(keys), len(keys) - len(in_sight), state)


def read_listed(destination: str) -> NDArray[np.int64] | None:
    """Return the keys of the listed tracks, int64 [tracks], sorted; None where no manifest has been finished.

    Raises:
        DestinationError: a store that cannot be read.
        SourceError: the manifest is damaged.
    """
    folder = Destination(destination).manifest
    for _ in range(LISTING_LOOKS):
        with finished_rows.reading(destination):
            try:
                return manifest.read_keys(folder)
            except FileNotFoundError:
                error = SourceError(f"the manifest in {shown(folder)} changed while it was read; run the command again")
            except SourceError as found:
                if not any(name.startswith("_manifest") for name in filesystems.list_files(folder)):
                    return None
                # Another one was finished meanwhile, and the parts of this one were removed; or it is damaged.
                error = found
    raise error


def _decide(destination: str, before: _State | None = None) -> _State:
    ranking = before.ranking if before is not None else Ranking()
    known = before.files if before is not None else None

    def reduce(table: pa.Table) -> tuple[RankedRows, tuple[str, ...]]:
        return finished_rows.ranked(ranking, table), schema.columns_of_file(table)

    files = finished_rows.read_finished(destination, RANKED, reduce, known=known)
    return _State(ranking, files, ranking.masks([ranked for ranked, _ in files.values()]))


def scan(
    destination: str,
    columns: Sequence[str],
    filter: ds.Expression | None = None,
    *,
    rows: ListedRows | None = None,
    unlisted: bool = False,
    keys: NDArray[np.int64] | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[pa.RecordBatch]:
    """Yield one row for each listed track batch by batch, in the order of the files.

    Columns not asked for are not read. No track comes twice and none is left out, whatever runs, compactions and prunes
    do to the files meanwhile; a track whose last row is removed meanwhile may be missing.

    Args:
        columns: names of ``schema.TRACKS``, or of the columns of ``rows.heads``.
        filter: an Arrow expression over any of the columns; which row of a track counts does not depend on it.
        rows: what ``listed_rows`` returned, so that several scans show the same tracks; looked up without it.
        unlisted: without ``rows``: show the tracks that are no longer listed too.
        keys: int64 [n] sorted; only tracks whose key is among them.
        batch_rows: at most so many rows at a time; take fewer for ``windows`` and embeddings.

    Raises:
        DestinationError: no tracks, or a file that cannot be read.
        SourceError: the manifest is damaged.
    """
    if rows is None:
        rows = listed_rows(destination, unlisted=unlisted)
    wanted, fields = rows.keys if keys is None else rows.keys[among(rows.keys, keys)], schema.tracks_of(rows.heads)
    state, without, num_looks = rows._state, np.empty(0, np.int64), 0
    # The common case: every row that counts is shown.
    planned = _plan(state, None if len(wanted) == rows.num_counting else wanted, without)
    while num_looks < finished_rows.MAX_LOOKS:
        seen: list[NDArray[np.int64]] = []
        try:
            yield from _scan(destination, planned, columns, filter, batch_rows, seen, fields)
            return
        except _ChangedError as error:
            # What was read under a file's name is not what was decided upon: nothing that is known holds good.
            known = None if error.is_mismatch else state
        without = np.sort(np.concatenate([without, *seen]))
        num_looks = 0 if seen else num_looks + 1
        state = _decide(destination, known)
        planned = _plan(state, wanted, without)
    raise finished_rows.changing(destination)


@dataclasses.dataclass(frozen=True)
class _PlannedFile:
    """A file to be read: the keys of its rows, and which of them to show."""

    file: TrackFile
    keys: NDArray[np.int64]
    is_shown: NDArray[np.bool_]


def _plan(state: _State, wanted: NDArray[np.int64] | None, without: NDArray[np.int64]) -> list[_PlannedFile]:
    """Return the rows that count, of the tracks ``wanted`` (None for all) except ``without``."""
    planned = []
    for (file, (ranked, _)), counts in zip(state.files.items(), state.counting, strict=True):
        is_shown = counts if wanted is None else counts & among(ranked.keys, wanted)
        if len(without):
            is_shown = is_shown & ~among(ranked.keys, without)
        if is_shown.any():
            planned.append(_PlannedFile(file, ranked.keys, is_shown))
    return planned


def _scan(
    destination: str,
    planned: Sequence[_PlannedFile],
    columns: Sequence[str],
    filter: ds.Expression | None,
    batch_rows: int,
    seen: list[NDArray[np.int64]],
    fields: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows that ``planned`` shows, and write down their keys in ``seen``, before the filter takes its share.

    Raises:
        _ChangedError: a file is gone or another than was planned.
    """
    files, place = iter(planned), 0
    current = next(files, None)
    for batch in _read(destination, [each.file for each in planned], columns, filter, batch_rows, fields):
        keys = batch[KEY].to_numpy()
        if current is not None and place == len(current.keys):
            current, place = next(files, None), 0
        if current is None or not np.array_equal(keys, current.keys[place : place + len(keys)]):
            raise _ChangedError(is_mismatch=True)
        is_shown = current.is_shown[place : place + len(keys)]
        place += len(keys)
        seen.append(keys[is_shown])
        if filter is not None:
            is_shown = is_shown & pc.fill_null(batch[_PASSES], False).to_numpy(zero_copy_only=False)
        if not is_shown.any():
            continue
        batch = batch.select(list(columns))
        yield batch if is_shown.all() else batch.filter(pa.array(is_shown))
    if current is not None and (place < len(current.keys) or next(files, None) is not None):
        raise _ChangedError(is_mismatch=True)


def _read(
    destination: str,
    files: Sequence[TrackFile],
    columns: Sequence[str],
    filter: ds.Expression | None,
    batch_rows: int,
    known: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    """Yield all rows of ``files`` in their order, with their keys and, as a column, whether they pass the filter.

    Raises:
        _ChangedError: a file is gone.
    """
    if not files:
        return
    errors = (*finished_rows.PARQUET_ERRORS, *filesystems.store_errors(filesystems.scheme(destination)))
    fields = {name: ds.field(name) for name in dict.fromkeys([*columns, KEY])}
    wanted = list(fields) if filter is None else {**fields, _PASSES: filter}
    batches: Iterator[pa.RecordBatch] | None = None
    while True:
        try:
            if batches is None:
                batches = _open(destination, files, wanted, batch_rows, known)
            batch = next(batches, None)
        except errors as error:
            there = set(track_files.finished(destination))
            if isinstance(error, FileNotFoundError) or not there.issuperset(files):
                raise _ChangedError(is_mismatch=False) from None
            is_damage = finished_rows.is_damage(destination, error)
            damaged = _find_damaged(destination, files, wanted, known) if is_damage else None
            raise finished_rows.unreadable(destination, error, damaged) from None
        if batch is None:
            return
        yield batch


def _open(
    destination: str,
    files: Sequence[TrackFile],
    wanted: list[str] | dict[str, ds.Expression],
    batch_rows: int,
    known: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    filesystem, _ = filesystems.arrow_filesystem(Destination(destination).tracks)
    paths = [file.path for file in files]
    return ds.dataset(paths, schema=known, filesystem=filesystem, format="parquet").to_batches(
        columns=wanted,
        batch_size=batch_rows,
        batch_readahead=BATCH_READAHEAD,
        fragment_readahead=FRAGMENT_READAHEAD,
    )


def _find_damaged(
    destination: str, files: Sequence[TrackFile], wanted: list[str] | dict[str, ds.Expression], known: pa.Schema
) -> TrackFile | None:
    """Return the first of ``files`` that cannot be read: Arrow does not say of which one its error is."""
    for file in files:
        try:
            for _ in _open(destination, [file], wanted, BATCH_ROWS, known):
                pass
        except (*finished_rows.PARQUET_ERRORS, OSError):
            return file
    return None


def digests(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Return uint64 [n]: a number for each text, equal for equal texts in every process."""
    joined = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(joined, np.uint64)
