"""What a run finds at a destination: which tracks have their row and their groups of columns, and what is left to do.

Rows are never taken away before they are written again: a track that is retried, or gets a further group, gets a row
that outranks the one it has (``ranking``). ``compaction.mend`` removes the outranked rows afterwards.
"""

from __future__ import annotations

import dataclasses
import io
import posixpath
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from tonearm.heads import GENRE, PUBLISHED, TAGS, Head, by_name
from tonearm.runs.destination import Destination
from tonearm.runs.groups import SINCE, Group, heads_of
from tonearm.runs.places import KEY, TODO
from tonearm.runs.rows import finished_rows, merged_schemas, schema
from tonearm.runs.rows.ranking import among
from tonearm.runs.rows.track_files import TrackFile
from tonearm.storage import filesystems
from tonearm.storage.store_errors import NO_CODE, READ_CODES

AUDITED = [KEY, "term", "status", "error_code", "duration_s", "coverage"]
# Rows that are carried through a run to be extended, in one file: some 10 KB each.
CARRIED_ROWS = 4096
OLD = "old"


@dataclasses.dataclass(frozen=True)
class Audit:
    """What ``tracks/`` holds for some tracks, one row a track: the one that counts.

    Attributes:
        num_incomplete: tracks whose row lacks a group that is wanted; by the group's name ``missing_by_group``.
        failed_by_group: those of ``missing_by_group`` that could not be decoded or scored the last time, so that only
            a run with ``retry_errors`` takes them up.
        num_outranked: rows that do not count, since their track has another.
        num_unlisted: tracks with a row that are not among those asked about.
    """

    num_listed: int
    num_ok: int
    num_error: int
    errors_by_code: dict[str, int]
    audio_s: float
    scored_s: float
    num_missing: int
    num_outranked: int
    num_files: int
    num_unlisted: int = 0
    num_incomplete: int = 0
    missing_by_group: dict[str, int] = dataclasses.field(default_factory=dict)
    failed_by_group: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def num_written(self) -> int:
        return self.num_ok + self.num_error

    @property
    def is_exact(self) -> bool:
        """Whether every track has a row; that it shows one only is a matter of rank."""
        return self.num_missing == 0

    @property
    def error_rate(self) -> float:
        return (self.num_error + self.num_incomplete) / self.num_listed if self.num_listed else 0.0


@dataclasses.dataclass(frozen=True)
class TodoPart:
    """A Parquet file of manifest rows that are to be tagged.

    Attributes:
        heads: those that are to score them; none named for all of the run.
        again: where each has a row already, in the column ``old``: a number of the parts in which that has one type.
    """

    url: str
    num_tracks: int
    heads: tuple[str, ...] = ()
    again: int | None = None


@dataclasses.dataclass(frozen=True)
class Found:
    """The rows of a destination, in the order of its files.

    Attributes:
        files: with their rows' bounds in the arrays, int64 [files + 1].
        keys: int64 [rows].
        counts: bool [rows], whether a row is its track's.
        is_ok: bool [rows].
        codes: int16 [rows], the number of the error's code in ``names``, or -1.
        has: by head, bool [rows].
        had: by head, bool [rows]: whether a row has it by whatever settings.
        is_new: by head, bool [rows]: whether the error of a row is older than the settings by which it is wanted.
        audio_s, scored_s: float32 [rows], 0 where a track failed.
        highest_term: of all rows; 0 where there are none, or none of format 2.
    """

    files: tuple[TrackFile, ...]
    bounds: NDArray[np.int64]
    keys: NDArray[np.int64]
    counts: NDArray[np.bool_]
    is_ok: NDArray[np.bool_]
    codes: NDArray[np.int16]
    names: tuple[str, ...]
    has: Mapping[str, NDArray[np.bool_]]
    had: Mapping[str, NDArray[np.bool_]]
    is_new: Mapping[str, NDArray[np.bool_]]
    audio_s: NDArray[np.float32]
    scored_s: NDArray[np.float32]
    highest_term: int

    def audit(self, listed: NDArray[np.int64], heads: Sequence[str] = ()) -> Audit:
        """Return what stands there for the tracks ``listed``, int64 [tracks] sorted.

        Args:
            heads: those that every row is to have.
        """
        is_listed = among(self.keys, listed)
        shown = self.counts & is_listed
        failed = shown & ~self.is_ok
        good = shown & self.is_ok
        counted = np.bincount(self.codes[failed] + 1, minlength=len(self.names) + 1)
        codes: Counter[str] = Counter()
        for name, count in zip((NO_CODE, *self.names), counted.tolist(), strict=True):
            codes[name] += count
        lacking = {head: good & ~self.has[head] for head in heads}
        is_tried = self._is_tried(retry_errors=False)
        given_up = {head: rows & ~is_tried & ~self.is_new[head] for head, rows in lacking.items()}
        complete = np.logical_and.reduce([self.has[head] for head in heads]) if heads else np.ones(len(good), bool)
        return Audit(
            num_listed=len(listed),
            num_ok=int(np.count_nonzero(good)),
            num_error=int(np.count_nonzero(failed)),
            errors_by_code=dict((+codes).most_common()),
            audio_s=float(self.audio_s[good].sum(dtype=np.float64)),
            scored_s=float(self.scored_s[good].sum(dtype=np.float64)),
            num_missing=len(listed) - int(np.count_nonzero(shown)),
            num_outranked=int(np.count_nonzero(~self.counts)),
            num_files=len(self.files),
            num_unlisted=int(np.count_nonzero(self.counts & ~is_listed)),
            num_incomplete=int(np.count_nonzero(good & ~complete)),
            missing_by_group=_counts(lacking),
            failed_by_group=_counts(given_up),
        )

    def complete(self, heads: Sequence[str]) -> NDArray[np.int64]:
        """Return the keys of the tracks that a run with these heads leaves as they are, int64 sorted."""
        everything = np.sort(self.keys[self.counts])
        again = self.again(everything, heads, retry_errors=False)
        todo = [self._keys_of(file, rows) for each in again for file, rows in each.rows.items()]
        return np.setdiff1d(everything, np.concatenate(todo)) if todo else everything

    def wanted(self, keys: NDArray[np.int64], heads: Sequence[str]) -> list[str]:
        """Return those of ``heads`` that a run scores for any of the tracks ``keys``: all where one has no row."""
        if not among(keys, np.sort(self.keys[self.counts])).all():
            return list(heads)
        named = {head for each in self.again(np.sort(keys), heads, retry_errors=False) for head in each.heads}
        return [head for head in heads if head in named]

    def _keys_of(self, file: TrackFile, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        number = self.files.index(file)
        return self.keys[self.bounds[number] : self.bounds[number + 1]][rows]

    def outranked(self) -> dict[TrackFile, NDArray[np.bool_]]:
        """Return the files that hold rows which do not count, each with those that do, bool [rows]."""
        return {file: counts for file, counts in self._by_file(self.counts) if not counts.all()}

    def again(self, listed: NDArray[np.int64], heads: Sequence[str], *, retry_errors: bool) -> list[Again]:
        """Return the rows that are to be written again, by the heads that have to score them.

        What a store did not give may be there the next time, so it is always asked for again; what could not be decoded
        or scored is only taken up with ``retry_errors``: another head would not read it either. So it is with a row
        that is ok and got an error when a head was to be added, but for a head that is new to it.
        """
        shown, is_tried = self.counts & among(self.keys, listed), self._is_tried(retry_errors=retry_errors)
        retried = shown & ~self.is_ok & is_tried
        lacks = {head: shown & self.is_ok & ~self.has[head] & (is_tried | self.is_new[head]) for head in heads}
        if TAGS.name in lacks and GENRE.name in lacks:
            # One timeline holds both on the tags' windows; with others the genre's own windows are wanted again.
            both = self.had[TAGS.name] & self.had[GENRE.name]
            lacks[GENRE.name] = lacks[GENRE.name] | (lacks[TAGS.name] & both)
        codes = np.zeros(len(shown), np.uint64)
        for bit, head in enumerate(heads):
            codes |= (lacks[head] | retried).astype(np.uint64) << np.uint64(bit)
        found = []
        for code in sorted(set(np.unique(codes).tolist()) - {0}):
            rows = dict(item for item in self._by_file(codes == code) if item[1].any())
            named = tuple(head for bit, head in enumerate(heads) if code >> bit & 1)
            found.append(Again(named, rows))
        return found

    def _is_tried(self, *, retry_errors: bool) -> NDArray[np.bool_]:
        """Return for which rows a run tries what they lack, bool [rows]."""
        by_code = np.array([retry_errors or name in READ_CODES for name in (*self.names, "")], bool)
        return by_code[self.codes] | (self.is_ok & (self.codes < 0))

    def _by_file(self, values: NDArray[np.bool_]) -> Iterator[tuple[TrackFile, NDArray[np.bool_]]]:
        for number, file in enumerate(self.files):
            yield file, values[self.bounds[number] : self.bounds[number + 1]]


def _counts(masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, int]:
    return {name: count for name, mask in masks.items() if (count := int(np.count_nonzero(mask)))}


@dataclasses.dataclass(frozen=True)
class Again:
    """Rows that are to be written again: the heads that score them, and for each file which rows, bool [rows]."""

    heads: tuple[str, ...]
    rows: Mapping[TrackFile, NDArray[np.bool_]]

    @property
    def num_tracks(self) -> int:
        """How many rows that are."""
        return sum(int(np.count_nonzero(rows)) for rows in self.rows.values())


def find(destination: Destination, groups: Mapping[str, Group], heads: Iterable[Head] = ()) -> Found:
    """Return the rows that stand at ``destination``.

    Args:
        groups: those that it has, or is about to have; a row has one when it says so by one of its hashes.
        heads: further ones that are asked about.

    Raises:
        DestinationError: a file that cannot be read.
    """
    codes = _Codes()
    named = by_name(PUBLISHED.values(), heads_of(groups).values(), heads)
    audited = [*AUDITED, *(column for head in named.values() for column in (head.settings, head.model))]
    fields = schema.tracks_of(named.values())
    audited_schema = pa.schema([fields.field(name) for name in audited])

    def reduce(table: pa.Table) -> dict[str, NDArray[Any]]:
        table = merged_schemas.conformed(table, audited_schema)
        good = pc.equal(table["status"], "ok").to_numpy()
        duration_s = pc.fill_null(table["duration_s"], 0.0).to_numpy()
        coverage = pc.fill_null(table["coverage"], 0.0).to_numpy()
        terms = pc.fill_null(table["term"], 0).to_numpy()
        columns = {
            KEY: table[KEY].to_numpy(),
            "is_ok": good,
            "codes": codes.numbers(table["error_code"]),
            "audio_s": np.where(good, duration_s, 0.0).astype(np.float32),
            "scored_s": np.where(good, duration_s * coverage, 0.0).astype(np.float32),
            "term": np.array([terms.max(initial=0)]),
        }
        for name, head in named.items():
            columns[f"had {name}"] = pc.is_valid(table[head.model]).to_numpy()
            columns[f"has {name}"] = _has(table[head.settings], columns[f"had {name}"], groups.get(name))
            since = groups[name].facts.get(SINCE, 0) if name in groups else np.inf
            columns[f"new {name}"] = terms < since
        return columns

    read = list(finished_rows.read_counted(destination.url, audited, reduce))

    def joined(name: str, kind: DTypeLike) -> NDArray[Any]:
        parts = [columns.pop(name) for _, columns, _ in read]
        return np.concatenate(parts) if parts else np.empty(0, kind)

    counts = [mask for _, _, mask in read]
    return Found(
        files=tuple(file for file, _, _ in read),
        bounds=np.cumsum([0, *map(len, counts)]),
        keys=joined(KEY, np.int64),
        counts=np.concatenate(counts) if counts else np.empty(0, bool),
        is_ok=joined("is_ok", bool),
        codes=joined("codes", np.int16),
        names=tuple(codes.known),
        has={name: joined(f"has {name}", bool) for name in named},
        had={name: joined(f"had {name}", bool) for name in named},
        is_new={name: joined(f"new {name}", bool) for name in named},
        audio_s=joined("audio_s", np.float32),
        scored_s=joined("scored_s", np.float32),
        highest_term=int(joined("term", np.int64).max(initial=0)),
    )


class _Codes:
    """Numbers the errors' codes as they come."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def numbers(self, column: pa.ChunkedArray) -> NDArray[np.int16]:
        encoded = column.combine_chunks().dictionary_encode()
        known = [self.known.setdefault(code, len(self.known)) for code in encoded.dictionary.to_pylist()]
        return np.array([*known, -1], np.int16)[pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)]


def _has(settings: pa.ChunkedArray, had: NDArray[np.bool_], group: Group | None) -> NDArray[np.bool_]:
    if group is None:
        return np.zeros(len(had), bool)
    named: NDArray[np.bool_] = pc.is_in(settings, pa.array(group.hashes, pa.string())).to_numpy()
    if group.adopts:
        named = named | (pc.is_null(settings).to_numpy() & had)
    return named


def write_todo(
    destination: Destination,
    parts: Sequence[str],
    done: NDArray[np.int64],
    *,
    check: Callable[[], None] = lambda: None,
) -> list[TodoPart]:
    """Return the manifest rows whose key is not in ``done``: the manifest's own parts where nothing is done.

    Args:
        parts: the manifest's Parquet files.
        done: sorted keys.
        check: called before what earlier runs had to do is removed; raises where the lock is another's.

    Raises:
        DestinationError: a part that cannot be read, or no space.
    """
    folder = _clear(destination, check)
    todo = []
    for number, part in enumerate(parts):
        with filesystems.reading(part):
            if not len(done):
                num_tracks = pq.read_metadata(io.BytesIO(filesystems.read_bytes(part))).num_rows
                todo.append(TodoPart(part, num_tracks))
                continue
            table = filesystems.read_table(part)
        table = table.filter(pa.array(~among(table[KEY].to_numpy(), done)))
        if table.num_rows:
            url = posixpath.join(folder, _new_name(f"part-{number:05d}"))
            filesystems.write_table(url, table)
            todo.append(TodoPart(url, table.num_rows))
    return todo


def write_again(destination: Destination, again: Sequence[Again]) -> list[TodoPart]:
    """Return the rows that are to be written again as parts, each row with all that stands there in the column ``old``.

    The caller has written the others first: ``write_todo`` clears the folder.
    """
    todo: list[TodoPart] = []
    groups = [(each, *group) for each in again for group in merged_schemas.alike(destination, list(each.rows))]
    for number, (each, files, old) in enumerate(groups):
        for rows in _gathered(destination, each, files, old):
            url = posixpath.join(_todo(destination), _new_name(f"again-{number}-{len(todo):05d}"))
            carried = pa.StructArray.from_arrays([column.combine_chunks() for column in rows.columns], fields=list(old))
            columns = [rows[name] for name in schema.MANIFEST.names]
            fields = [*schema.MANIFEST, pa.field(OLD, carried.type)]
            filesystems.write_table(url, pa.Table.from_arrays([*columns, carried], schema=pa.schema(fields)))
            todo.append(TodoPart(url, rows.num_rows, each.heads, again=number))
    return todo


def _gathered(
    destination: Destination, again: Again, files: Sequence[TrackFile], wanted: pa.Schema
) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    for file, table in finished_rows.scan_files(destination.url, None, files):
        held.append(merged_schemas.to_schema(destination, file, table.filter(pa.array(again.rows[file])), wanted))
        while sum(map(len, held)) >= CARRIED_ROWS:
            rows = pa.concat_tables(held)
            yield rows.slice(0, CARRIED_ROWS)
            held = [rows.slice(CARRIED_ROWS)]
    if any(map(len, held)):
        yield pa.concat_tables(held)


def _todo(destination: Destination) -> str:
    return destination.checkpoint(TODO)


def _new_name(name: str) -> str:
    # No other run's, so that what one that was displaced still writes is never taken for this run's work.
    return f"{name}-{uuid.uuid4().hex[:8]}.parquet"


def _clear(destination: Destination, check: Callable[[], None]) -> str:
    folder = _todo(destination)
    with filesystems.reading(folder):
        names = filesystems.list_files(folder)
    check()  # what is there now is of runs before this one
    for name in names:
        filesystems.delete(posixpath.join(folder, name))
    return folder
