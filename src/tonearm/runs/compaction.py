"""Compaction: rewrite the many small files of ``tracks/`` as few large ones, sorted by key, in crash-safe steps.

A run writes a file per block, about a megabyte, since a run resumes by whole files. A step of compaction takes small
files and writes their rows to files of about ``TARGET_BYTES``, each with its own range of keys::

    1  _checkpoint/compaction/ID.pending      from here on compacted-ID-*.parquet do not count
    2  tracks/compacted-ID-*.parquet          the rows, sorted
    3  _checkpoint/FP/compacted-ID.parquet    their keys: the mark that a run leaves for each of its files
    4  _checkpoint/compaction/ID.json         the commit: the outputs count, the inputs that it names do not
    5  inputs and their marks deleted, then 1, then 4

A commit counts only while 1 and all of its outputs are there. So a commit that arrives late, from a process that was
suspended while another run undid its step, has no effect.

If a step is killed, the next compaction or run undoes it (before 4) or completes it (after 4). A program that reads
``tracks/*.parquet`` without these marks may see a row twice while a step runs, but never misses one; the views of
docs/rows.md drop the second.
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tonearm.errors import DestinationError
from tonearm.runs.destination import Destination
from tonearm.runs.places import COMPACTION, KEY
from tonearm.runs.rows import finished_rows, track_files
from tonearm.runs.rows.merged_schemas import alike, to_schema
from tonearm.runs.rows.ranking import among
from tonearm.runs.rows.track_files import COMPACTED, PENDING_SUFFIX, TrackFile
from tonearm.storage import filesystems
from tonearm.storage.uris import shown

MIB = 2**20
# DuckDB, Spark and object stores work best with files of 64 to 512 MB; the sort holds one such file in memory.
TARGET_BYTES = 160 * MIB
SMALL_BYTES = 64 * MIB
# Bytes of Parquet in one step. All rows of a step pass through the temporary folder, where they take about twice this.
STEP_BYTES = 32 * 2**30
# How much is sorted at a time on its way to the temporary files.
BUFFER_BYTES = 256 * MIB
ROW_GROUP_ROWS = 8192


@dataclasses.dataclass(frozen=True)
class Compacted:
    """What a compaction did; all zero if there was nothing to do."""

    num_before: int = 0
    num_after: int = 0
    num_rows: int = 0
    num_bytes: int = 0

    def __add__(self, other: Compacted) -> Compacted:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Compacted(*(left + right for left, right in pairs))


def compact(
    destination: Destination,
    *,
    target_bytes: int = TARGET_BYTES,
    step_bytes: int = STEP_BYTES,
    progress: Callable[[int, int], None] | None = None,
    check: Callable[[], None] = lambda: None,
) -> Compacted:
    """Rewrite the small files of ``destination`` as few large ones; the caller holds its lock.

    Args:
        target_bytes: size of an output. Files of 64 MiB, or of half of this where that is less, stay as they are.
        step_bytes: size of the inputs of one step; less if the temporary folder has less than twice that free.
        progress: called in each step with the rows done and the rows of the step.
        check: called before each step takes effect; raises if another run has the lock.

    Raises:
        DestinationError: a file cannot be read, or there is no space.
    """
    recover(destination, check=check)
    mend(destination, outranked(destination), check=check)
    done = Compacted()
    for inputs in steps(track_files.finished(destination.url), target_bytes=target_bytes, step_bytes=step_bytes):
        for files, target_schema in alike(destination, inputs):
            if len(files) > 1:
                done += _compact_step(destination, files, target_schema, target_bytes, progress, check)
    return done


def outranked(destination: Destination) -> dict[TrackFile, NDArray[np.bool_]]:
    """Return the files that hold outranked rows; for each which of its rows count, bool [rows]."""
    read = finished_rows.read_counted(destination.url, [], lambda table: None)
    return {file: rows for file, _, rows in read if not rows.all()}


def unlisted(destination: Destination, listed: NDArray[np.int64]) -> dict[TrackFile, NDArray[np.bool_]]:
    """Return the files that hold outranked or unlisted rows; for each which of its rows stay, bool [rows].

    Args:
        listed: int64 [tracks], sorted.
    """
    read = finished_rows.read_counted(destination.url, [KEY], lambda table: table[KEY].to_numpy())
    staying = {file: rows & among(keys, listed) for file, keys, rows in read}
    return {file: rows for file, rows in staying.items() if not rows.all()}


def mend(
    destination: Destination,
    counting: Mapping[TrackFile, NDArray[np.bool_]],
    *,
    check: Callable[[], None] = lambda: None,
) -> int:
    """Remove rows, such as outranked ones, and return how many; the caller holds the destination's lock.

    Args:
        counting: the files with rows to remove; for each which of its rows stay, bool [rows].
        check: called before each step takes effect; raises if another run has the lock.

    Raises:
        DestinationError: a file cannot be read, or there is no space.
    """
    recover(destination, check=check)
    inputs, staying = list(counting), {file.name: rows for file, rows in counting.items()}
    num_removed = 0
    for group in _group_by_size(inputs, _group_bytes(TARGET_BYTES, STEP_BYTES)):
        for files, target_schema in alike(destination, group):
            num_removed += sum(int(np.count_nonzero(~staying[file.name])) for file in files)
            _compact_step(destination, files, target_schema, TARGET_BYTES, None, check, staying)
    return num_removed


def steps(files: Sequence[TrackFile], *, target_bytes: int, step_bytes: int) -> list[list[TrackFile]]:
    """Return the small files in groups of at most ``step_bytes``, leaving out groups of a single file."""
    small = [file for file in files if file.size_bytes < min(SMALL_BYTES, target_bytes / 2)]
    return [group for group in _group_by_size(small, _group_bytes(target_bytes, step_bytes)) if len(group) > 1]


def _group_bytes(target_bytes: int, step_bytes: int) -> int:
    # 0.4: rows take twice their Parquet size there, and a fifth of the disk is left to other programs.
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return max(target_bytes, min(step_bytes, int(free * 0.4)))


def _group_by_size(files: Sequence[TrackFile], limit: int) -> list[list[TrackFile]]:
    groups: list[list[TrackFile]] = []
    num_bytes = 0
    for file in files:
        if not groups or num_bytes + file.size_bytes > limit:
            groups.append([])
            num_bytes = 0
        groups[-1].append(file)
        num_bytes += file.size_bytes
    return groups


def recover(destination: Destination, *, check: Callable[[], None] = lambda: None) -> None:
    """Undo or complete the steps that were killed (see the module's docstring), and delete half-written files.

    The caller holds the lock. Pending marks may be of runs with other groups, in folders that Ray Data does not clean.

    Args:
        check: called after everything is listed and before anything is deleted; raises if another run has the lock,
            since the files may then be the ones that it is writing.

    Raises:
        DestinationError: a folder in it is a symbolic link, so that deleting in it could delete files elsewhere.
    """
    destination.check_own()
    marks, unfinished_prefixes = list[str](), list[str]()
    for mark_folder in _mark_folders(destination):
        folder = destination.checkpoint(mark_folder)
        mark_names = _list_names(folder)
        marks += [posixpath.join(folder, name) for name in mark_names if name.endswith(PENDING_SUFFIX)]
        unfinished_prefixes += track_files.begun(mark_names)
    with filesystems.reading(destination.url):
        state = track_files.read_compactions(destination.url)
    names = _list_names(destination.tracks)
    check()
    for name in names:
        if name.startswith(tuple(unfinished_prefixes)) and name.endswith(".parquet"):
            filesystems.delete(posixpath.join(destination.tracks, name))
    for mark in marks:
        filesystems.delete(mark)
    for identity, commit in state.commits.items():
        if commit.is_whole(names):
            _complete_step(destination, identity, sorted(commit.superseded))
    # A commit without all of its outputs was written after another run had undone its step.
    incomplete = [identity for identity, commit in state.commits.items() if not commit.is_whole(names)]
    for identity in (*state.pending, *incomplete):
        for name in _output_names(destination, identity):
            filesystems.delete(posixpath.join(destination.tracks, name))
        filesystems.delete(_pending_url(destination, identity))
        filesystems.delete(_commit_url(destination, identity))
    # Late commits have no effect; their outputs were deleted when the step was undone.
    for identity in state.late:
        filesystems.delete(_commit_url(destination, identity))


def _list_names(folder: str) -> list[str]:
    with filesystems.reading(folder):
        return filesystems.list_files(folder)


def _compact_step(
    destination: Destination,
    inputs: list[TrackFile],
    target_schema: pa.Schema,
    target_bytes: int,
    progress: Callable[[int, int], None] | None,
    check: Callable[[], None] = lambda: None,
    counting: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Compacted:
    identity = uuid.uuid4().hex[:12]
    # Before the first output: from here on, readers ignore the outputs.
    filesystems.write_text(_pending_url(destination, identity), "")
    keys = np.sort(
        np.concatenate(
            [
                _staying_rows(file, table, counting)[KEY].to_numpy()
                for file, table in finished_rows.scan_files(destination.url, [KEY], inputs)
            ]
        )
    )
    # Removed rows take no space in the outputs.
    share = len(keys) / max(1, len(keys) if counting is None else sum(len(counting[file.name]) for file in inputs))
    num_outputs = max(1, round(share * sum(file.size_bytes for file in inputs) / target_bytes)) if len(keys) else 0
    # The first key of every output except output 0, at equal numbers of rows.
    edges = keys[[len(keys) * number // num_outputs for number in range(1, num_outputs)]]
    with tempfile.TemporaryDirectory(prefix="tonearm-compact-") as folder:
        piles = [Path(folder) / f"{number}.arrow" for number in range(num_outputs)]
        with filesystems.writing(folder):
            if num_outputs:
                report = (lambda num: progress(num, len(keys))) if progress else (lambda num: None)
                _distribute_rows(destination, inputs, target_schema, edges, piles, report, counting)
        written = [
            _write_output(destination, f"{COMPACTED}{identity}-{number:05d}.parquet", pile)
            for number, pile in enumerate(piles)
        ]
    # The inputs may not be deleted before the outputs are known to have the same keys.
    if not np.array_equal(np.concatenate([keys[:0], *(part for part, _ in written)]), keys):
        raise DestinationError(
            f"{shown(destination.url)}: tracks/ changed while it was compacted; nothing is lost. Run it again"
        )
    if len(keys):
        _write_marks(destination, identity, keys)
    check()
    commit = {"superseded": [file.name for file in inputs], "outputs": _output_names(destination, identity)}
    filesystems.write_text(_commit_url(destination, identity), json.dumps(commit, indent=1))
    # A run that took the lock before the commit was written has undone this step, and needs the inputs.
    check()
    _complete_step(destination, identity, commit["superseded"])
    return Compacted(len(inputs), num_outputs, len(keys), sum(size for _, size in written))


def _distribute_rows(
    destination: Destination,
    inputs: Sequence[TrackFile],
    target_schema: pa.Schema,
    edges: NDArray[np.int64],
    piles: Sequence[Path],
    progress: Callable[[int], None],
    counting: Mapping[str, NDArray[np.bool_]] | None,
) -> None:
    """Append each row to the pile (a temporary file) whose range of keys it is in."""
    writers = [pa.ipc.new_file(str(pile), target_schema) for pile in piles]
    try:
        num_rows = 0
        rows = finished_rows.scan_files(destination.url, None, inputs)
        staying = (
            to_schema(destination, file, _staying_rows(file, table, counting), target_schema) for file, table in rows
        )
        for table in _join_tables(staying):
            table = table.take(pc.sort_indices(table[KEY])).combine_chunks()
            places = np.searchsorted(table[KEY].to_numpy(), edges, side="left")
            bounds = [0, *places.tolist(), table.num_rows]
            for number, writer in enumerate(writers):
                if bounds[number + 1] > bounds[number]:
                    writer.write_table(table.slice(bounds[number], bounds[number + 1] - bounds[number]))
            num_rows += table.num_rows
            progress(num_rows)
    finally:
        for writer in writers:
            writer.close()


def _join_tables(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    num_bytes = 0
    for table in tables:
        waiting.append(table)
        num_bytes += table.nbytes
        if num_bytes >= BUFFER_BYTES:
            yield pa.concat_tables(waiting)
            waiting, num_bytes = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def _staying_rows(file: TrackFile, table: pa.Table, counting: Mapping[str, NDArray[np.bool_]] | None) -> pa.Table:
    return table if counting is None else table.filter(pa.array(counting[file.name]))


def _write_output(destination: Destination, name: str, pile: Path) -> tuple[NDArray[np.int64], int]:
    """Write one pile as a sorted Parquet file; return its keys and its size in bytes."""
    filesystem, path = filesystems.arrow_filesystem(posixpath.join(destination.tracks, name))
    with pa.memory_map(str(pile)) as source:
        table = pa.ipc.open_file(source).read_all()
        table = table.take(pc.sort_indices(table[KEY]))
    pile.unlink()
    with filesystems.writing(destination.tracks):
        pq.write_table(
            table,
            path,
            filesystem=filesystem,
            compression="zstd",
            row_group_size=ROW_GROUP_ROWS,
            write_statistics=True,
            write_page_index=True,
            sorting_columns=[pq.SortingColumn(table.schema.get_field_index(KEY))],
        )
        num_bytes = filesystem.get_file_info(path).size or 0
    return table[KEY].to_numpy(), num_bytes


def _write_marks(destination: Destination, identity: str, keys: NDArray[np.int64]) -> None:
    # One for each set of groups that was ever written here: a run resumes by the marks of its own set.
    marks = pa.table({KEY: keys})
    for mark_folder in _mark_folders(destination):
        filesystems.write_table(destination.checkpoint(mark_folder, f"{COMPACTED}{identity}.parquet"), marks)


def _mark_folders(destination: Destination) -> list[str]:
    names = _list_names(destination.checkpoint())
    known = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return [name for name in known if _list_names(destination.checkpoint(name))]


def _complete_step(destination: Destination, identity: str, superseded: Sequence[str]) -> None:
    """Delete the inputs of a committed step and their marks, and then the step's own files."""
    to_delete = [posixpath.join(destination.tracks, name) for name in superseded]
    for mark_folder in _mark_folders(destination):
        folder = destination.checkpoint(mark_folder)
        marks = {_mark_of(name) for name in superseded}
        to_delete += [posixpath.join(folder, name) for name in _list_names(folder) if name in marks]
    with ThreadPoolExecutor(finished_rows.READERS, thread_name_prefix="compact") as pool:
        list(pool.map(filesystems.delete, to_delete))
    # In this order: a commit alone has no effect, but a pending mark alone would undo the step.
    filesystems.delete(_pending_url(destination, identity))
    filesystems.delete(_commit_url(destination, identity))


def _mark_of(name: str) -> str:
    """Return the name of the mark of a file of ``tracks/``: both runs and compactions add ``-{number}`` to it."""
    return f"{name.removesuffix('.parquet').rpartition('-')[0]}.parquet"


def _output_names(destination: Destination, identity: str) -> list[str]:
    return [name for name in _list_names(destination.tracks) if name.startswith(f"{COMPACTED}{identity}-")]


def _pending_url(destination: Destination, identity: str) -> str:
    return destination.checkpoint(COMPACTION, f"{identity}.pending")


def _commit_url(destination: Destination, identity: str) -> str:
    return destination.checkpoint(COMPACTION, f"{identity}.json")
