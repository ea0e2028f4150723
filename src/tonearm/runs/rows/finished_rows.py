"""Reading the finished files of ``tracks/`` table by table; ``track_rows`` reads rows batch by batch.

``scan_files`` is for who holds the lock. ``read_finished`` takes none and reads the folder as of one moment: between
its look at the folder and its reads another process may commit a compaction, or write a row to another file and remove
it from the one where it was. So the folder is looked at again once all files are read: what is gone or has changed by
then is dropped, and what stands there instead is read, until both looks agree.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow.fs import FileSystem

from tonearm.errors import DestinationError, TonearmError
from tonearm.runs.places import KEY, TRACKS
from tonearm.runs.rows import schema, track_files
from tonearm.runs.rows.ranking import RANKED, RankedRows, Ranking
from tonearm.runs.rows.track_files import TrackFile
from tonearm.storage import filesystems
from tonearm.storage.uris import shown

T = TypeVar("T")

# A store's latency, many times over. On disk more than one thread costs twice the processor time: each file is some
# milliseconds of small steps, for each of which a thread has to get Python's lock.
READERS, LOCAL_READERS = 16, 1
# Each look reads only what has changed since the one before, so that even the steps of a large compaction are outrun.
MAX_LOOKS = 50
PARQUET_ERRORS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError)


def read_finished(
    destination: str,
    columns: Sequence[str],
    reduce: Callable[[pa.Table], T],
    known: Mapping[TrackFile, T] | None = None,
) -> dict[TrackFile, T]:
    """Return what ``reduce`` makes of the rows of each finished file, in the order of their paths.

    Every row that stood in ``tracks/`` the whole time is among them, even if it was moved from one file to another.

    Args:
        columns: those that a file lacks are not in its table.
        reduce: called once a file, on this thread; may raise ``pa.ArrowInvalid`` for a table that cannot be. See
            ``schema.columns_of_file`` for which columns its file has.
        known: what an earlier call returned: files that are still the same are not read again.

    Raises:
        DestinationError: a file that is damaged, or a store that cannot be read.
    """
    errors = (*PARQUET_ERRORS, *filesystems.store_errors(filesystems.scheme(destination)))
    done: dict[TrackFile, T] = dict(known or {})
    failed: dict[TrackFile, Exception] = {}
    files = track_files.finished(destination)
    for _ in range(MAX_LOOKS):
        done = {file: done[file] for file in files if file in done}
        for file, result in _tables(destination, [file for file in files if file not in done], columns):
            try:
                if isinstance(result, Exception):
                    raise result
                done[file] = reduce(result)
            except errors as failure:
                failed[file] = failure
        files = track_files.finished(destination)
        there = set(files)
        for file, error in failed.items():
            # A file that is listed and not found is one that is on its way: the next look tells.
            if file in there and not isinstance(error, FileNotFoundError):
                raise unreadable(destination, error, file)
        # Files that came in the meantime may be left out: no row of theirs was lost sight of.
        if not failed and done.keys() <= there:
            return dict(sorted(done.items(), key=lambda item: item[0].path))
        failed = {}
    raise changing(destination)


def scan_files(
    destination: str, columns: Sequence[str] | None, files: Sequence[TrackFile] | None = None
) -> Iterator[tuple[TrackFile, pa.Table]]:
    """Yield the rows file by file; for who holds the lock, since a file that goes away meanwhile is an error.

    Args:
        columns: those that a file lacks are not in its table; None for all that each file has.
        files: some of the finished files; None for all.

    Raises:
        DestinationError: a file that is damaged, named, or a store that cannot be read.
    """
    if files is None:
        files = track_files.finished(destination)
    for file, result in _tables(destination, files, columns):
        if isinstance(result, Exception):
            raise unreadable(destination, result, file) from None
        yield file, result


def _tables(
    destination: str, files: Sequence[TrackFile], columns: Sequence[str] | None
) -> Iterator[tuple[TrackFile, pa.Table | Exception]]:
    """Yield each file's rows, or why it cannot be read, some files ahead; all columns where ``columns`` is None."""
    filesystem, _ = filesystems.arrow_filesystem(f"{destination.rstrip('/') or '/'}/{TRACKS}")
    errors = (*PARQUET_ERRORS, *filesystems.store_errors(filesystems.scheme(destination)))

    def read(file: TrackFile) -> pa.Table | Exception:
        try:
            return _read(file, columns, filesystem)
        except errors as error:
            return error

    # Of whole rows decoding takes longer than the small steps.
    num_readers = LOCAL_READERS if columns is not None and filesystems.is_local(destination) else READERS
    # Tables that wait to be used: of a compacted file three columns are some megabytes, whole rows a hundred.
    num_ahead = num_readers if columns is None else 4 * num_readers
    with ThreadPoolExecutor(num_readers, thread_name_prefix="tracks") as pool:
        for first in range(0, len(files), num_ahead):
            some = files[first : first + num_ahead]
            yield from zip(some, pool.map(read, some), strict=True)


def _read(file: TrackFile, columns: Sequence[str] | None, filesystem: FileSystem) -> pa.Table:
    # Cheaper than `pq.read_table`, which makes a data set of each file.
    with pq.ParquetFile(file.path, filesystem=filesystem, pre_buffer=True) as parquet:
        table = parquet.read(columns=None if columns is None else list(columns), use_threads=False)
        return table.replace_schema_metadata({schema.FILE_COLUMNS: json.dumps(parquet.schema_arrow.names)})


def read_counted(
    destination: str, columns: Sequence[str], reduce: Callable[[pa.Table], T]
) -> Iterator[tuple[TrackFile, T, NDArray[np.bool_]]]:
    """Yield for each finished file what ``reduce`` makes of ``columns``, and which of its rows count, bool [rows].

    In one pass over the files, as of one moment; of each key one row counts. Holds what ``reduce`` returns.

    Raises:
        DestinationError: as ``read_finished``.
    """
    ranking = Ranking()
    both = list(dict.fromkeys([*RANKED, *columns]))

    def both_of(table: pa.Table) -> tuple[RankedRows, T]:
        wanted = [name for name in columns if name in table.column_names]
        return ranked(ranking, table), reduce(table.select(wanted))

    read = read_finished(destination, both, both_of)
    masks = ranking.masks([rows for rows, _ in read.values()])
    for (file, (_, reduced)), mask in zip(read.items(), masks, strict=True):
        yield file, reduced, mask


def ranked(ranking: Ranking, table: pa.Table) -> RankedRows:
    """Return what ``ranking`` needs of a table with the columns ``RANKED``, whoever has written it.

    Raises:
        ArrowInvalid: a key that is missing or no number.
    """
    names = table.column_names
    keys = table[KEY].cast(pa.int64()).combine_chunks() if KEY in names else None
    if keys is None or keys.null_count:
        raise pa.ArrowInvalid(f"it has {'rows without' if KEY in names else 'no column'} {KEY}")
    runs = table["run_id"].cast(pa.string()) if "run_id" in names else pa.nulls(len(keys), pa.string())
    terms = table["term"].cast(pa.int64()) if "term" in names else pa.nulls(len(keys), pa.int64())
    return ranking.read(pa.table({KEY: keys, "term": terms, "run_id": runs}))


@contextlib.contextmanager
def reading(destination: str) -> Iterator[None]:
    """Turn what can go wrong while reading into one line; around the reading alone, not around what uses the rows."""
    try:
        yield
    except TonearmError:
        raise
    except (*PARQUET_ERRORS, *filesystems.store_errors(filesystems.scheme(destination))) as error:
        raise unreadable(destination, error) from None


def unreadable(destination: str, error: Exception, file: TrackFile | None = None) -> DestinationError:
    """Return the line for a file that is there and cannot be read."""
    if isinstance(error, FileNotFoundError) and file is not None:
        return DestinationError(
            f"{shown(destination)}: tracks/ changed while it was read ({file.name} is gone); run the command again"
        )
    reason = filesystems.reason(error)
    if is_damage(destination, error):
        which = file.path if file is not None else f"{destination}: a file of tracks/"
        return DestinationError(
            f"{which} cannot be read ({reason}); move that file out of tracks/ and run `tonearm tag` again: its tracks "
            "will be tagged anew"
        )
    return DestinationError(f"{shown(destination)}: tracks/ cannot be read ({reason}); see `tonearm doctor`")


def is_damage(destination: str, error: Exception) -> bool:
    """Return whether the bytes of a file are wrong, rather than the way to them."""
    if isinstance(error, PARQUET_ERRORS):
        return True
    # Of pages that cannot be decoded Arrow says OSError, without the number that every error of a disk has; a store's
    # error may lack it too.
    return filesystems.is_local(destination) and type(error) is OSError and error.errno is None


def changing(destination: str) -> DestinationError:
    """Return the line for a folder that never stands still."""
    return DestinationError(
        f"{shown(destination)}: tracks/ changed {MAX_LOOKS} times while it was read; run the command again"
    )
