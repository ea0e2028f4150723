"""Read the finished files of ``tracks/`` table by table; ``track_rows`` reads rows batch by batch.

``scan_files`` is for the process that holds the lock. ``read_finished`` needs no lock and returns the rows as of one
moment. While it reads, another process may commit a compaction, or write a row to a new file and remove it from the old
one. So the folder is listed again after all files are read: results of files that are gone or have changed are dropped,
the files that came instead are read, and so on until two listings agree.
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

# On object stores each read waits for the network, so many wait at once. On disk, more than one thread takes twice the
# processor time: a file is some milliseconds of small steps, and for each of them a thread has to get Python's lock.
READERS, LOCAL_READERS = 16, 1
# Each round reads only what has changed since the last one, so it is faster than the steps of a large compaction.
MAX_LOOKS = 50
PARQUET_ERRORS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError)


def read_finished(
    destination: str,
    columns: Sequence[str],
    reduce: Callable[[pa.Table], T],
    known: Mapping[TrackFile, T] | None = None,
) -> dict[TrackFile, T]:
    """Return the result of ``reduce`` for each finished file, in the order of their paths.

    A row that is in ``tracks/`` during the whole call is always included, even if it is moved to another file.

    Args:
        columns: columns to read; those that a file lacks are missing from its table.
        reduce: called once per file, on this thread, with its table; may raise ``pa.ArrowInvalid`` to say that the file
            is damaged. ``schema.columns_of_file`` returns all columns of the table's file.
        known: the result of an earlier call: files that have not changed are not read again.

    Raises:
        DestinationError: a file is damaged, or the store cannot be read.
    """
    errors = (*PARQUET_ERRORS, *filesystems.store_errors(filesystems.scheme(destination)))
    done: dict[TrackFile, T] = dict(known or {})
    failed: dict[TrackFile, Exception] = {}
    files = track_files.finished(destination)
    for _ in range(MAX_LOOKS):
        done = {file: done[file] for file in files if file in done}
        for file, result in _read_tables(destination, [file for file in files if file not in done], columns):
            try:
                if isinstance(result, Exception):
                    raise result
                done[file] = reduce(result)
            except errors as failure:
                failed[file] = failure
        files = track_files.finished(destination)
        present = set(files)
        for file, error in failed.items():
            # Listed but not found: it is being replaced just now, or the store's listing lags. The next round decides.
            if file in present and not isinstance(error, FileNotFoundError):
                raise unreadable(destination, error, file)
        # New files may be left out: all files that were read are still there, so no row has moved to a new one.
        if not failed and done.keys() <= present:
            return dict(sorted(done.items(), key=lambda item: item[0].path))
        failed = {}
    raise changing(destination)


def scan_files(
    destination: str, columns: Sequence[str] | None, files: Sequence[TrackFile] | None = None
) -> Iterator[tuple[TrackFile, pa.Table]]:
    """Yield the rows file by file. Only for the process that holds the lock: a file that disappears is an error.

    Args:
        columns: columns to read; those that a file lacks are missing from its table. None for all columns of each file.
        files: some of the finished files; None for all.

    Raises:
        DestinationError: a file is damaged (the message names it), or the store cannot be read.
    """
    if files is None:
        files = track_files.finished(destination)
    for file, result in _read_tables(destination, files, columns):
        if isinstance(result, Exception):
            raise unreadable(destination, result, file) from None
        yield file, result


def _read_tables(
    destination: str, files: Sequence[TrackFile], columns: Sequence[str] | None
) -> Iterator[tuple[TrackFile, pa.Table | Exception]]:
    """Yield for each file its rows or the error of reading it, reading some files ahead; see ``scan_files``."""
    filesystem = filesystems.arrow_filesystem(f"{destination.rstrip('/') or '/'}/{TRACKS}").filesystem
    errors = (*PARQUET_ERRORS, *filesystems.store_errors(filesystems.scheme(destination)))

    def read(file: TrackFile) -> pa.Table | Exception:
        try:
            return _read_table(file, columns, filesystem)
        except errors as error:
            return error

    # Whole rows take longer to decode than the small steps, and Arrow decodes without Python's lock.
    num_readers = LOCAL_READERS if columns is not None and filesystems.is_local(destination) else READERS
    # How many tables may be in memory: of a compacted file, three columns take some megabytes, whole rows a hundred.
    num_ahead = num_readers if columns is None else 4 * num_readers
    with ThreadPoolExecutor(num_readers, thread_name_prefix="tracks") as pool:
        for first in range(0, len(files), num_ahead):
            some = files[first : first + num_ahead]
            yield from zip(some, pool.map(read, some), strict=True)


def _read_table(file: TrackFile, columns: Sequence[str] | None, filesystem: FileSystem) -> pa.Table:
    # Not `pq.read_table`, which makes a data set of each file: that takes longer than reading a small one.
    with pq.ParquetFile(file.path, filesystem=filesystem, pre_buffer=True) as parquet:
        table = parquet.read(columns=None if columns is None else list(columns), use_threads=False)
        return table.replace_schema_metadata({schema.FILE_COLUMNS: json.dumps(parquet.schema_arrow.names)})


def read_counted(
    destination: str, columns: Sequence[str], reduce: Callable[[pa.Table], T]
) -> Iterator[tuple[TrackFile, T, NDArray[np.bool_]]]:
    """Yield for each finished file the result of ``reduce``, and which of its rows count, bool [rows].

    Reads the files once, as of one moment. Exactly one row of each key counts. All results are held in memory.

    Raises:
        DestinationError: as ``read_finished``.
    """
    ranking = Ranking()
    columns_needed = list(dict.fromkeys([*RANKED, *columns]))

    def rank_and_reduce(table: pa.Table) -> tuple[RankedRows, T]:
        requested = [name for name in columns if name in table.column_names]
        return ranked(ranking, table), reduce(table.select(requested))

    results = read_finished(destination, columns_needed, rank_and_reduce)
    masks = ranking.masks([rows for rows, _ in results.values()])
    for (file, (_, reduced)), mask in zip(results.items(), masks, strict=True):
        yield file, reduced, mask


def ranked(ranking: Ranking, table: pa.Table) -> RankedRows:
    """Return the columns ``RANKED`` of a table as ``ranking`` needs them; the file may be another program's.

    Raises:
        ArrowInvalid: a key is missing or not a number.
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
    """Turn errors of reading into one-line errors. Wrap only the reading: not code that uses the rows."""
    try:
        yield
    except TonearmError:
        raise
    except (*PARQUET_ERRORS, *filesystems.store_errors(filesystems.scheme(destination))) as error:
        raise unreadable(destination, error) from None


def unreadable(destination: str, error: Exception, file: TrackFile | None = None) -> DestinationError:
    """Return the error for a file, or the folder, that cannot be read."""
    if isinstance(error, FileNotFoundError) and file is not None:
        return DestinationError(
            f"{shown(destination)}: tracks/ changed while it was read ({file.name} is gone); run the command again"
        )
    reason = filesystems.reason(error)
    if is_damage(destination, error):
        file_text = file.path if file is not None else f"{destination}: a file of tracks/"
        return DestinationError(
            f"{file_text} cannot be read ({reason}); move that file out of tracks/ and run `tonearm tag` again: it "
            "will tag its tracks again"
        )
    return DestinationError(f"{shown(destination)}: tracks/ cannot be read ({reason}); see `tonearm doctor`")


def is_damage(destination: str, error: Exception) -> bool:
    """Return whether an error says that a file's bytes are wrong, rather than that they could not be read."""
    if isinstance(error, PARQUET_ERRORS):
        return True
    # For pages that cannot be decoded Arrow raises OSError without an errno, which every error of a disk has. Errors of
    # object stores may lack it too, so this only tells for local files.
    return filesystems.is_local(destination) and type(error) is OSError and error.errno is None


def changing(destination: str) -> DestinationError:
    """Return the error for a folder that has changed in every round."""
    return DestinationError(
        f"{shown(destination)}: tracks/ changed {MAX_LOOKS} times while it was read; run the command again"
    )
