"""Read ``tracks/*.parquet`` batch by batch: one row for each listed track, however many rows it has.

A track may have several rows, of which one counts (``ranking``). ``tracks/`` also keeps the rows of audio files that
were deleted, renamed or replaced and are no longer in the manifest. Rows that do not count are never shown; rows that
are not listed are shown only on request. A file whose mark is still *pending* is left out: the next run tags its tracks
again.

Readers take no lock. A scan first decides from three small columns which rows count, and then reads those rows. If a
run, a compaction or a prune changes a file in between, the scan decides again and continues with the remaining tracks.
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
# Decode one batch while another is in use, and open the next file meanwhile. More would only take memory.
BATCH_READAHEAD = 2
FRAGMENT_READAHEAD = 2
EMBEDDINGS = tuple(head.embedding for head in PUBLISHED.values())
# How often the manifest may be replaced while it is read. A listing takes longer than reading it, so 5 is plenty.
LISTING_LOOKS = 5
# Name of the column in which Arrow returns whether a row passes the filter.
_PASSES = "__passes"


@dataclasses.dataclass(frozen=True)
class _State:
    """For each finished file its ranked rows and column names, and which of its rows count, listed or not."""

    ranking: Ranking
    files: Mapping[TrackFile, tuple[RankedRows, tuple[str, ...]]]
    counting: Sequence[NDArray[np.bool_]]


@dataclasses.dataclass(frozen=True)
class ListedRows:
    """Which rows of a destination count, as of one moment; the input of ``scan``.

    Attributes:
        keys: int64 [tracks], sorted: the tracks that a scan shows.
        num_outranked: rows that do not count, because another row of their track does.
        num_unlisted: rows of tracks that are no longer listed; 0 if those are shown too.
    """

    keys: NDArray[np.int64]
    num_outranked: int
    num_unlisted: int
    _state: _State = dataclasses.field(repr=False, compare=False)

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads besides the published ones that rows have, in the order in which files first have them."""
        of_files = dict.fromkeys(columns for _, columns in self._state.files.values())
        return tuple(by_name(*map(heads_among, of_files)).values())

    @property
    def num_counting(self) -> int:
        """The number of rows that count, listed or not: one for each key."""
        return sum(int(np.count_nonzero(counts)) for counts in self._state.counting)


class _ChangedError(Exception):
    """A file is gone, or its rows are not those for which it was decided which count (``is_mismatch``)."""

    def __init__(self, *, is_mismatch: bool) -> None:
        super().__init__()
        self.is_mismatch = is_mismatch


def listed_rows(destination: str, *, unlisted: bool = False) -> ListedRows:
    """Return which rows of ``destination`` count and are listed.

    Without a finished listing, all rows that count are taken for listed. Holds about 20 bytes per row, and as much
    again while it decides.

    Args:
        destination: a folder or an object-store prefix that ``tonearm tag`` has written.
        unlisted: include the tracks that are no longer listed.

    Raises:
        DestinationError: there are no tracks, or a file cannot be read.
        SourceError: the manifest is damaged.
    """
    # The manifest first: a run lists before it tags, so a row is never shown that is older than the listing.
    listed = None if unlisted else read_listed(destination)
    state = _decide_counting(destination)
    if not state.files:
        raise DestinationError(
            f"{destination}: no tracks here (expected {Destination(destination).tracks}/*.parquet); "
            f"give a destination that `tonearm tag SOURCE --out {destination}` has written"
        )
    rows = zip(state.files.values(), state.counting, strict=True)
    keys = np.sort(np.concatenate([ranked.keys[counts] for (ranked, _), counts in rows]))
    shown_keys = keys if listed is None else keys[among(keys, listed)]
    num_rows = sum(len(ranked.keys) for ranked, _ in state.files.values())
    return ListedRows(shown_keys, num_rows - len(keys), len(keys) - len(shown_keys), state)


def read_listed(destination: str) -> NDArray[np.int64] | None:
    """Return the keys of the listed tracks, int64 [tracks], sorted; None if no manifest has been finished.

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
            except SourceError as source_error:
                if not any(name.startswith("_manifest") for name in filesystems.list_files(folder)):
                    return None
                # Either a new manifest was finished and the parts of this one deleted, or it is damaged: try again.
                error = source_error
    raise error


def _decide_counting(destination: str, previous: _State | None = None) -> _State:
    ranking = previous.ranking if previous is not None else Ranking()
    known = previous.files if previous is not None else None

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
    """Yield one row for each listed track, batch by batch, in the order of the files.

    Only the requested columns are read. No track comes twice and none is left out, even if runs, compactions and prunes
    change the files meanwhile; only a track whose last row is removed meanwhile may be missing.

    Args:
        columns: names of ``schema.TRACKS``, or of the columns of ``rows.heads``.
        filter: an Arrow expression over any of the columns; which row of a track counts does not depend on it.
        rows: the result of ``listed_rows``, so that several scans show the same tracks; computed if None.
        unlisted: if ``rows`` is None: also show tracks that are no longer listed.
        keys: int64 [n] sorted; show only tracks with these keys.
        batch_rows: most rows per batch; give fewer for ``windows`` and embeddings, which are large.

    Raises:
        DestinationError: there are no tracks, or a file cannot be read.
        SourceError: the manifest is damaged.
    """
    if rows is None:
        rows = listed_rows(destination, unlisted=unlisted)
    shown_keys, fields = rows.keys if keys is None else rows.keys[among(rows.keys, keys)], schema.tracks_of(rows.heads)
    state, yielded_keys, num_looks = rows._state, np.empty(0, np.int64), 0
    # None in the common case that every row that counts is shown: no keys have to be compared.
    planned = _plan_files(state, None if len(shown_keys) == rows.num_counting else shown_keys, yielded_keys)
    while num_looks < finished_rows.MAX_LOOKS:
        yielded: list[NDArray[np.int64]] = []
        try:
            yield from _yield_planned(destination, planned, columns, filter, batch_rows, yielded, fields)
            return
        except _ChangedError as error:
            # The file may have the same name, size and time and yet other rows, so earlier results are not reused.
            known = None if error.is_mismatch else state
        yielded_keys = np.sort(np.concatenate([yielded_keys, *yielded]))
        # Rounds without progress are counted: a long scan beside a long compaction may need many with progress.
        num_looks = 0 if yielded else num_looks + 1
        state = _decide_counting(destination, known)
        planned = _plan_files(state, shown_keys, yielded_keys)
    raise finished_rows.changing(destination)


@dataclasses.dataclass(frozen=True)
class _PlannedFile:
    """A file to read, with the keys of its rows and which of them to show."""

    file: TrackFile
    keys: NDArray[np.int64]
    is_shown: NDArray[np.bool_]


def _plan_files(
    state: _State, shown_keys: NDArray[np.int64] | None, yielded_keys: NDArray[np.int64]
) -> list[_PlannedFile]:
    """Return the rows that count, of the tracks ``wanted`` (None for all) except ``without``."""
    planned = []
    for (file, (ranked, _)), counts in zip(state.files.items(), state.counting, strict=True):
        is_shown = counts if shown_keys is None else counts & among(ranked.keys, shown_keys)
        if len(yielded_keys):
            is_shown = is_shown & ~among(ranked.keys, yielded_keys)
        if is_shown.any():
            planned.append(_PlannedFile(file, ranked.keys, is_shown))
    return planned


def _yield_planned(
    destination: str,
    planned: Sequence[_PlannedFile],
    columns: Sequence[str],
    filter: ds.Expression | None,
    batch_rows: int,
    yielded: list[NDArray[np.int64]],
    fields: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows that ``planned`` shows, and append their keys to ``yielded``, also of rows that the filter drops.

    Raises:
        _ChangedError: a file is gone, or has other rows than planned.
    """
    files, position = iter(planned), 0
    current = next(files, None)
    for batch in _read_batches(
        destination, [planned_file.file for planned_file in planned], columns, filter, batch_rows, fields
    ):
        keys = batch[KEY].to_numpy()
        if current is not None and position == len(current.keys):
            current, position = next(files, None), 0
        if current is None or not np.array_equal(keys, current.keys[position : position + len(keys)]):
            raise _ChangedError(is_mismatch=True)
        is_shown = current.is_shown[position : position + len(keys)]
        position += len(keys)
        yielded.append(keys[is_shown])
        if filter is not None:
            is_shown = is_shown & pc.fill_null(batch[_PASSES], False).to_numpy(zero_copy_only=False)
        if not is_shown.any():
            continue
        batch = batch.select(list(columns))
        yield batch if is_shown.all() else batch.filter(pa.array(is_shown))
    if current is not None and (position < len(current.keys) or next(files, None) is not None):
        raise _ChangedError(is_mismatch=True)


def _read_batches(
    destination: str,
    files: Sequence[TrackFile],
    columns: Sequence[str],
    filter: ds.Expression | None,
    batch_rows: int,
    table_schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    """Yield all rows of ``files`` in order, with their keys and, in a column, whether they pass the filter.

    Raises:
        _ChangedError: a file is gone.
    """
    if not files:
        return
    errors = (*finished_rows.PARQUET_ERRORS, *filesystems.store_errors(filesystems.scheme(destination)))
    fields = {name: ds.field(name) for name in dict.fromkeys([*columns, KEY])}
    arrow_columns = list(fields) if filter is None else {**fields, _PASSES: filter}
    batches: Iterator[pa.RecordBatch] | None = None
    # Opened within the loop, so that errors of opening and of reading are handled in one place.
    while True:
        try:
            if batches is None:
                batches = _open_dataset(destination, files, arrow_columns, batch_rows, table_schema)
            batch = next(batches, None)
        except errors as error:
            present = set(track_files.finished(destination))
            if isinstance(error, FileNotFoundError) or not present.issuperset(files):
                raise _ChangedError(is_mismatch=False) from None
            is_damage = finished_rows.is_damage(destination, error)
            damaged = _find_damaged(destination, files, arrow_columns, table_schema) if is_damage else None
            raise finished_rows.unreadable(destination, error, damaged) from None
        if batch is None:
            return
        yield batch


def _open_dataset(
    destination: str,
    files: Sequence[TrackFile],
    arrow_columns: list[str] | dict[str, ds.Expression],
    batch_rows: int,
    table_schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    filesystem = filesystems.arrow_filesystem(Destination(destination).tracks).filesystem
    paths = [file.path for file in files]
    return ds.dataset(paths, schema=table_schema, filesystem=filesystem, format="parquet").to_batches(
        columns=arrow_columns,
        batch_size=batch_rows,
        batch_readahead=BATCH_READAHEAD,
        fragment_readahead=FRAGMENT_READAHEAD,
    )


def _find_damaged(
    destination: str,
    files: Sequence[TrackFile],
    arrow_columns: list[str] | dict[str, ds.Expression],
    table_schema: pa.Schema,
) -> TrackFile | None:
    """Return the first of ``files`` that cannot be read. Arrow's errors do not name the file."""
    for file in files:
        try:
            for _ in _open_dataset(destination, [file], arrow_columns, BATCH_ROWS, table_schema):
                pass
        except (*finished_rows.PARQUET_ERRORS, OSError):
            return file
    return None


def digests(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Return uint64 [n]: for each text a number that is the same in every process, unlike Python's ``hash``."""
    joined = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(joined, np.uint64)
