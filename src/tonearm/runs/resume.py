"""What is left to do at a destination: which tracks have their row, and which rows lack a group of columns.

A row is never removed before its successor is written: a track that is retried, or gets a further group, gets a new row
that outranks the old one (``ranking``). ``compaction.mend`` removes outranked rows afterwards.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import DTypeLike, NDArray

from tonearm.heads import GENRE, PUBLISHED, TAGS, Head, by_name
from tonearm.runs.destination import Destination
from tonearm.runs.groups import SINCE, Group, heads_of
from tonearm.runs.places import KEY
from tonearm.runs.rows import finished_rows, merged_schemas, schema
from tonearm.runs.rows.ranking import among
from tonearm.runs.rows.track_files import TrackFile
from tonearm.storage.store_errors import NO_CODE, READ_CODES

AUDITED = [KEY, "term", "status", "error_code", "duration_s", "coverage"]


@dataclasses.dataclass(frozen=True)
class Audit:
    """Counts over the rows of some tracks; of each track the one row that counts.

    Attributes:
        num_incomplete: tracks whose row lacks one of the groups; ``missing_by_group`` has their number by group.
        failed_by_group: those of ``missing_by_group`` that could not be decoded or scored the last time, so that only
            a run with ``retry_errors`` tries them again.
        num_outranked: rows that do not count, because their track has another row that does.
        num_unlisted: tracks that have a row but are not listed.
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
        """Whether every track has a row. It never shows more than one: ranking picks it."""
        return self.num_missing == 0

    @property
    def error_rate(self) -> float:
        return (self.num_error + self.num_incomplete) / self.num_listed if self.num_listed else 0.0


@dataclasses.dataclass(frozen=True)
class StoredRows:
    """A few columns of all rows of a destination, in the order of its files.

    Attributes:
        files: the files; ``bounds``, int64 [files + 1], says where each one's rows are in the arrays.
        keys: int64 [rows].
        counts: bool [rows], whether a row is the one that counts for its track.
        is_ok: bool [rows].
        codes: int16 [rows], the index of the row's error code in ``names``; -1 for none.
        has: for each head, bool [rows]: whether the row has the head's columns, made with the group's settings.
        had: for each head, bool [rows]: whether the row has the head's columns, made with any settings.
        is_new: for each head, bool [rows]: whether the row, and so its error, is older than the group's last rescore.
        audio_s, scored_s: float32 [rows], 0 where a track failed.
        highest_term: of all rows; 0 without rows, or if all rows are of 0.1.0.
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
        """Return the counts over the rows of the tracks ``listed``, int64 [tracks] sorted.

        Args:
            heads: the heads that every row should have.
        """
        is_listed = among(self.keys, listed)
        counting = self.counts & is_listed
        failed = counting & ~self.is_ok
        succeeded = counting & self.is_ok
        num_by_code = np.bincount(self.codes[failed] + 1, minlength=len(self.names) + 1)
        codes: Counter[str] = Counter()
        for name, count in zip((NO_CODE, *self.names), num_by_code.tolist(), strict=True):
            codes[name] += count
        lacking_by_head = {head: succeeded & ~self.has[head] for head in heads}
        is_tried = self._is_tried(retry_errors=False)
        failed_by_head = {head: rows & ~is_tried & ~self.is_new[head] for head, rows in lacking_by_head.items()}
        complete = np.logical_and.reduce([self.has[head] for head in heads]) if heads else np.ones(len(succeeded), bool)
        return Audit(
            num_listed=len(listed),
            num_ok=int(np.count_nonzero(succeeded)),
            num_error=int(np.count_nonzero(failed)),
            errors_by_code=dict((+codes).most_common()),
            audio_s=float(self.audio_s[succeeded].sum(dtype=np.float64)),
            scored_s=float(self.scored_s[succeeded].sum(dtype=np.float64)),
            num_missing=len(listed) - int(np.count_nonzero(counting)),
            num_outranked=int(np.count_nonzero(~self.counts)),
            num_files=len(self.files),
            num_unlisted=int(np.count_nonzero(self.counts & ~is_listed)),
            num_incomplete=int(np.count_nonzero(succeeded & ~complete)),
            missing_by_group=_count_true(lacking_by_head),
            failed_by_group=_count_true(failed_by_head),
        )

    def complete(self, heads: Sequence[str]) -> NDArray[np.int64]:
        """Return the keys of the tracks for which a run with these heads has nothing to do, int64 sorted."""
        all_keys = np.sort(self.keys[self.counts])
        rewrites = self.rewrites(all_keys, heads, retry_errors=False)
        unfinished = [self._keys_of(file, rows) for rewrite in rewrites for file, rows in rewrite.rows.items()]
        return np.setdiff1d(all_keys, np.concatenate(unfinished)) if unfinished else all_keys

    def heads_to_score(self, keys: NDArray[np.int64], heads: Sequence[str]) -> list[str]:
        """Return the ``heads`` that a run has to score for any of the tracks ``keys``; all if a track has no row."""
        if not among(keys, np.sort(self.keys[self.counts])).all():
            return list(heads)
        to_score = {
            head for rewrite in self.rewrites(np.sort(keys), heads, retry_errors=False) for head in rewrite.heads
        }
        return [head for head in heads if head in to_score]

    def _keys_of(self, file: TrackFile, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        number = self.files.index(file)
        return self.keys[self.bounds[number] : self.bounds[number + 1]][rows]

    def outranked(self) -> dict[TrackFile, NDArray[np.bool_]]:
        """Return the files that hold outranked rows; for each which of its rows count, bool [rows]."""
        return {file: counts for file, counts in self._by_file(self.counts) if not counts.all()}

    def rewrites(self, listed: NDArray[np.int64], heads: Sequence[str], *, retry_errors: bool) -> list[Rewrite]:
        """Return the rows that are to be written again, grouped by the heads that have to score them.

        A track that the store failed to give is always tried again. One that could not be decoded or scored is only
        tried again with ``retry_errors``, since another head would fail on it too. The same holds for a row that is ok
        but has the error of a head that was to be added, except for heads that are new to the row.
        """
        counting, is_tried = self.counts & among(self.keys, listed), self._is_tried(retry_errors=retry_errors)
        retried = counting & ~self.is_ok & is_tried
        lacking_by_head = {
            head: counting & self.is_ok & ~self.has[head] & (is_tried | self.is_new[head]) for head in heads
        }
        if TAGS.name in lacking_by_head and GENRE.name in lacking_by_head:
            # The column ``windows`` has the labels of both heads on the tags' windows. To build it again with other
            # windows, the genre has to be scored again too.
            both = self.had[TAGS.name] & self.had[GENRE.name]
            lacking_by_head[GENRE.name] = lacking_by_head[GENRE.name] | (lacking_by_head[TAGS.name] & both)
        # One bit per head, so that rows that need the same heads are found by one comparison.
        head_sets = np.zeros(len(counting), np.uint64)
        for bit, head in enumerate(heads):
            head_sets |= (lacking_by_head[head] | retried).astype(np.uint64) << np.uint64(bit)
        rewrites = []
        for head_set in sorted(set(np.unique(head_sets).tolist()) - {0}):
            rows = dict(item for item in self._by_file(head_sets == head_set) if item[1].any())
            heads_of_code = tuple(head for bit, head in enumerate(heads) if head_set >> bit & 1)
            rewrites.append(Rewrite(heads_of_code, rows))
        return rewrites

    def _is_tried(self, *, retry_errors: bool) -> NDArray[np.bool_]:
        """Return for which rows a run tries again what they lack, bool [rows]."""
        # The last entry is for code -1, rows without an error, which NumPy indexes from the end.
        by_code = np.array([retry_errors or name in READ_CODES for name in (*self.names, "")], bool)
        return by_code[self.codes] | (self.is_ok & (self.codes < 0))

    def _by_file(self, values: NDArray[np.bool_]) -> Iterator[tuple[TrackFile, NDArray[np.bool_]]]:
        for number, file in enumerate(self.files):
            yield file, values[self.bounds[number] : self.bounds[number + 1]]


def _count_true(masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, int]:
    return {name: count for name, mask in masks.items() if (count := int(np.count_nonzero(mask)))}


@dataclasses.dataclass(frozen=True)
class Rewrite:
    """Rows that are to be written again: the heads that score them, and for each file which of its rows.

    Attributes:
        rows: bool [rows of the file].
    """

    heads: tuple[str, ...]
    rows: Mapping[TrackFile, NDArray[np.bool_]]

    @property
    def num_tracks(self) -> int:
        """The number of these rows."""
        return sum(int(np.count_nonzero(rows)) for rows in self.rows.values())


def read_rows(destination: Destination, groups: Mapping[str, Group], heads: Iterable[Head] = ()) -> StoredRows:
    """Return the rows at ``destination``.

    Args:
        groups: those that it has or will have; a row has a group if it names one of the group's hashes.
        heads: further heads to look for in the rows.

    Raises:
        DestinationError: a file that cannot be read.
    """
    codes = _ErrorCodes()
    audited_heads = by_name(PUBLISHED.values(), heads_of(groups).values(), heads)
    audited = [*AUDITED, *(column for head in audited_heads.values() for column in (head.settings, head.model))]
    fields = schema.tracks_of(audited_heads.values())
    audited_schema = pa.schema([fields.field(name) for name in audited])

    def reduce(table: pa.Table) -> dict[str, NDArray[Any]]:
        table = merged_schemas.conformed(table, audited_schema)
        succeeded = pc.equal(table["status"], "ok").to_numpy()
        duration_s = pc.fill_null(table["duration_s"], 0.0).to_numpy()
        coverage = pc.fill_null(table["coverage"], 0.0).to_numpy()
        terms = pc.fill_null(table["term"], 0).to_numpy()
        columns = {
            KEY: table[KEY].to_numpy(),
            "is_ok": succeeded,
            "codes": codes.numbers(table["error_code"]),
            "audio_s": np.where(succeeded, duration_s, 0.0).astype(np.float32),
            "scored_s": np.where(succeeded, duration_s * coverage, 0.0).astype(np.float32),
            "term": np.array([terms.max(initial=0)]),
        }
        for name, head in audited_heads.items():
            columns[f"had {name}"] = pc.is_valid(table[head.model]).to_numpy()
            columns[f"has {name}"] = _has_group(table[head.settings], columns[f"had {name}"], groups.get(name))
            # A head without a group is new to every row.
            since = groups[name].facts.get(SINCE, 0) if name in groups else np.inf
            columns[f"new {name}"] = terms < since
        return columns

    per_file = list(finished_rows.read_counted(destination.url, audited, reduce))

    def joined(name: str, kind: DTypeLike) -> NDArray[Any]:
        # pop: each column's parts are freed once they are joined, so that no two copies of all columns are in memory.
        parts = [columns.pop(name) for _, columns, _ in per_file]
        return np.concatenate(parts) if parts else np.empty(0, kind)

    counts = [mask for _, _, mask in per_file]
    return StoredRows(
        files=tuple(file for file, _, _ in per_file),
        bounds=np.cumsum([0, *map(len, counts)]),
        keys=joined(KEY, np.int64),
        counts=np.concatenate(counts) if counts else np.empty(0, bool),
        is_ok=joined("is_ok", bool),
        codes=joined("codes", np.int16),
        names=tuple(codes.known),
        has={name: joined(f"has {name}", bool) for name in audited_heads},
        had={name: joined(f"had {name}", bool) for name in audited_heads},
        is_new={name: joined(f"new {name}", bool) for name in audited_heads},
        audio_s=joined("audio_s", np.float32),
        scored_s=joined("scored_s", np.float32),
        highest_term=int(joined("term", np.int64).max(initial=0)),
    )


class _ErrorCodes:
    """Numbers error codes in the order in which they first appear."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def numbers(self, column: pa.ChunkedArray) -> NDArray[np.int16]:
        encoded = column.combine_chunks().dictionary_encode()
        known = [self.known.setdefault(code, len(self.known)) for code in encoded.dictionary.to_pylist()]
        return np.array([*known, -1], np.int16)[pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)]


def _has_group(settings: pa.ChunkedArray, had: NDArray[np.bool_], group: Group | None) -> NDArray[np.bool_]:
    if group is None:
        return np.zeros(len(had), bool)
    has_group: NDArray[np.bool_] = pc.is_in(settings, pa.array(group.hashes, pa.string())).to_numpy()
    if group.adopts:
        has_group = has_group | (pc.is_null(settings).to_numpy() & had)
    return has_group
