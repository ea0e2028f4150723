"""Few large files instead of many small ones: ``tracks/`` rewritten, sorted by key, in steps that a crash cannot tear.

A run writes a file for each block, a megabyte or so, because a file is also what resume counts by. A step of compaction
takes small files and writes their rows to files of about ``TARGET_BYTES``, each with a range of keys of its own::

    1  _checkpoint/compaction/ID.pending      from here on compacted-ID-*.parquet do not count
    2  tracks/compacted-ID-*.parquet          the rows, sorted
    3  _checkpoint/FP/compacted-ID.parquet    their keys: the mark that a run leaves for each of its files
    4  _checkpoint/compaction/ID.json         the commit: the outputs count, the inputs that it names do not
    5  inputs and their marks deleted, then 1, then 4

A commit counts while 1 and all of its outputs are there: one that lands after another run has undone its step, such as
that of a process that was suspended meanwhile, says nothing.

Whatever is left of a step that was killed, the next compaction or run undoes (before 4) or completes (after 4). Whoever
reads ``tracks/*.parquet`` without these marks may see a row twice while a step runs, and never misses one: the views of
docs/rows.md take one of the two.
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
# Between 64 and 512 MB, what DuckDB, Spark and object stores like; the sort holds one such file in memory.
TARGET_BYTES = 160 * MIB
SMALL_BYTES = 64 * MIB
# Of Parquet in one step: what is sorted at once passes through the temporary folder, and takes about twice this there.
STEP_BYTES = 32 * 2**30
BUFFER_BYTES = 256 * MIB
ROW_GROUP_ROWS = 8192


@dataclasses.dataclass(frozen=True)
class Compacted:
    """What a compaction did; all zero where there was nothing to do."""

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
        target_bytes: of an output; files of 64 MiB or more, or of half of it where that is less, stay as they are.
        step_bytes: of the inputs of one step, less where the temporary folder has less than twice that free.
        progress: told the rows done and the rows in all, for each step.
        check: called before each step takes effect; raises where the lock is another's.

    Raises:
        DestinationError: a file that cannot be read, or no space.
    """
    recover(destination, check=check)
    mend(destination, outranked(destination), check=check)
    done = Compacted()
    for inputs in steps(track_files.finished(destination.url), target_bytes=target_bytes, step_bytes=step_bytes):
        for files, wanted in alike(destination, inputs):
            if len(files) > 1:
                done += _step(destination, files, wanted, target_bytes, progress, check)
    return done


def outranked(destination: Destination) -> dict[TrackFile, NDArray[np.bool_]]:
    """Return the files that hold rows which do not count, each with those that do, bool [rows]."""
    read = finished_rows.read_counted(destination.url, [], lambda table: None)
    return {file: rows for file, _, rows in read if not rows.all()}


def unlisted(destination: Destination, listed: NDArray[np.int64]) -> dict[TrackFile, NDArray[np.bool_]]:
    """Return the files that hold rows which do not count or are not listed, each with those that stay, bool [rows].

    Args:
        listed: int64 [tracks], sorted.
    """
    read = finished_rows.read_counted(destination.url, [KEY], lambda table: table[KEY].to_numpy())
    stays = {file: rows & among(keys, listed) for file, keys, rows in read}
    return {file: rows for file, rows in stays.items() if not rows.all()}


def mend(
    destination: Destination,
    counting: Mapping[TrackFile, NDArray[np.bool_]],
    *,
    check: Callable[[], None] = lambda: None,
) -> int:
    """Remove the rows that do not count, and return how many; the caller holds the destination's lock.

    Args:
        counting: files that hold such rows, each with those that stay, bool [rows].
        check: called before each step takes effect; raises where the lock is another's.

    Raises:
        DestinationError: a file that cannot be read, or no space.
    """
    recover(destination, check=check)
    inputs, kept = list(counting), {file.name: rows for file, rows in counting.items()}
    num_removed = 0
    for group in _groups(inputs, _limit(TARGET_BYTES, STEP_BYTES)):
        for files, wanted in alike(destination, group):
            num_removed += sum(int(np.count_nonzero(~kept[file.name])) for file in files)
            _step(destination, files, wanted, TARGET_BYTES, None, check, kept)
    return num_removed


def steps(files: Sequence[TrackFile], *, target_bytes: int, step_bytes: int) -> list[list[TrackFile]]:
    """Return the small files in groups of at most ``step_bytes``; none where there are too few to be worth it."""
    small = [file for file in files if file.size_bytes < min(SMALL_BYTES, target_bytes / 2)]
    return [group for group in _groups(small, _limit(target_bytes, step_bytes)) if len(group) > 1]


def _limit(target_bytes: int, step_bytes: int) -> int:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return max(target_bytes, min(step_bytes, int(free * 0.4)))


def _groups(files: Sequence[TrackFile], limit: int) -> list[list[TrackFile]]:
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
    """Undo or complete the steps that were killed, see the module's text, and remove what a killed run half wrote.

    The caller holds the lock. Marks that are still pending may be of runs with other groups, which Ray Data does not
    look at.

    Args:
        check: called once it is known what there is, before any of it is touched; raises where the lock is another's,
            since then it may be what that one writes.

    Raises:
        DestinationError: a folder in it is a link, so that what is deleted there may be another's.
    """
    destination.check_own()
    marks, begun = list[str](), list[str]()
    for fingerprint in _fingerprints(destination):
        folder = destination.checkpoint(fingerprint)
        found = _names(folder)
        marks += [posixpath.join(folder, name) for name in found if name.endswith(PENDING_SUFFIX)]
        begun += track_files.begun(found)
    with filesystems.reading(destination.url):
        state = track_files.read_compactions(destination.url)
    names = _names(destination.tracks)
    check()
    for name in names:
        if name.startswith(tuple(begun)) and name.endswith(".parquet"):
            filesystems.delete(posixpath.join(destination.tracks, name))
    for mark in marks:
        filesystems.delete(mark)
    for identity, commit in state.commits.items():
        if commit.is_whole(names):
            _complete(destination, identity, sorted(commit.superseded))
    void = [identity for identity, commit in state.commits.items() if not commit.is_whole(names)]
    for identity in (*state.pending, *void):
        for name in _outputs(destination, identity):
            filesystems.delete(posixpath.join(destination.tracks, name))
        filesystems.delete(_mark(destination, identity))
        filesystems.delete(_commit(destination, identity))
    for identity in state.late:
        filesystems.delete(_commit(destination, identity))


def _names(folder: str) -> list[str]:
    with filesystems.reading(folder):
        return filesystems.list_files(folder)


def _step(
    destination: Destination,
    inputs: list[TrackFile],
    wanted: pa.Schema,
    target_bytes: int,
    progress: Callable[[int, int], None] | None,
    check: Callable[[], None] = lambda: None,
    counting: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Compacted:
    identity = uuid.uuid4().hex[:12]
    filesystems.write_text(_mark(destination, identity), "")
    keys = np.sort(
        np.concatenate(
            [
                _kept(file, table, counting)[KEY].to_numpy()
                for file, table in finished_rows.scan_files(destination.url, [KEY], inputs)
            ]
        )
    )
    share = len(keys) / max(1, len(keys) if counting is None else sum(len(counting[file.name]) for file in inputs))
    num_outputs = max(1, round(share * sum(file.size_bytes for file in inputs) / target_bytes)) if len(keys) else 0
    # The first key of each output but the first.
    edges = keys[[len(keys) * number // num_outputs for number in range(1, num_outputs)]]
    with tempfile.TemporaryDirectory(prefix="tonearm-compact-") as folder:
        piles = [Path(folder) / f"{number}.arrow" for number in range(num_outputs)]
        with filesystems.writing(folder):
            if num_outputs:
                said = (lambda num: progress(num, len(keys))) if progress else (lambda num: None)
                _distribute(destination, inputs, wanted, edges, piles, said, counting)
        written = [
            _write_output(destination, f"{COMPACTED}{identity}-{number:05d}.parquet", pile)
            for number, pile in enumerate(piles)
        ]
    if not np.array_equal(np.concatenate([keys[:0], *(part for part, _ in written)]), keys):
        raise DestinationError(
            f"{shown(destination.url)}: tracks/ changed while it was compacted; nothing is lost. Run it again"
        )
    if len(keys):
        _write_marks(destination, identity, keys)
    check()
    commit = {"superseded": [file.name for file in inputs], "outputs": _outputs(destination, identity)}
    filesystems.write_text(_commit(destination, identity), json.dumps(commit, indent=1))
    # Whoever has taken over before the commit was there has undone this step, and needs the inputs.
    check()
    _complete(destination, identity, commit["superseded"])
    return Compacted(len(inputs), num_outputs, len(keys), sum(size for _, size in written))


def _distribute(
    destination: Destination,
    inputs: Sequence[TrackFile],
    wanted: pa.Schema,
    edges: NDArray[np.int64],
    piles: Sequence[Path],
    progress: Callable[[int], None],
    counting: Mapping[str, NDArray[np.bool_]] | None,
) -> None:
    """Put each row on the pile whose range of keys it is in."""
    writers = [pa.ipc.new_file(str(pile), wanted) for pile in piles]
    try:
        num_rows = 0
        rows = finished_rows.scan_files(destination.url, None, inputs)
        kept = (to_schema(destination, file, _kept(file, table, counting), wanted) for file, table in rows)
        for table in _gathered(kept):
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


def _gathered(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    num_bytes = 0
    for table in tables:
        held.append(table)
        num_bytes += table.nbytes
        if num_bytes >= BUFFER_BYTES:
            yield pa.concat_tables(held)
            held, num_bytes = [], 0
    if held:
        yield pa.concat_tables(held)


def _kept(file: TrackFile, table: pa.Table, counting: Mapping[str, NDArray[np.bool_]] | None) -> pa.Table:
    return table if counting is None else table.filter(pa.array(counting[file.name]))


def _write_output(destination: Destination, name: str, pile: Path) -> tuple[NDArray[np.int64], int]:
    """Write one pile as Parquet; return its keys, sorted, and its size in bytes."""
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
    marks = pa.table({KEY: keys})
    for fingerprint in _fingerprints(destination):
        filesystems.write_table(destination.checkpoint(fingerprint, f"{COMPACTED}{identity}.parquet"), marks)


def _fingerprints(destination: Destination) -> list[str]:
    names = _names(destination.checkpoint())
    known = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return [name for name in known if _names(destination.checkpoint(name))]


def _complete(destination: Destination, identity: str, superseded: Sequence[str]) -> None:
    """Delete what the outputs of a committed step replace, their marks, and last the step's own traces."""
    gone = [posixpath.join(destination.tracks, name) for name in superseded]
    for fingerprint in _fingerprints(destination):
        folder = destination.checkpoint(fingerprint)
        marks = {_mark_of(name) for name in superseded}
        gone += [posixpath.join(folder, name) for name in _names(folder) if name in marks]
    with ThreadPoolExecutor(finished_rows.READERS, thread_name_prefix="compact") as pool:
        list(pool.map(filesystems.delete, gone))
    filesystems.delete(_mark(destination, identity))
    filesystems.delete(_commit(destination, identity))


def _mark_of(name: str) -> str:
    """Return the name of the mark for a file of ``tracks/``: of a task's ``{task}-{number}``, or of a compaction's."""
    return f"{name.removesuffix('.parquet').rpartition('-')[0]}.parquet"


def _outputs(destination: Destination, identity: str) -> list[str]:
    return [name for name in _names(destination.tracks) if name.startswith(f"{COMPACTED}{identity}-")]


def _mark(destination: Destination, identity: str) -> str:
    return destination.checkpoint(COMPACTION, f"{identity}.pending")


def _commit(destination: Destination, identity: str) -> str:
    return destination.checkpoint(COMPACTION, f"{identity}.json")
