"""Read which settings hashes the rows of a destination name, for when its ``groups.json`` is gone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tonearm.heads import Head
from tonearm.runs.destination import Destination
from tonearm.runs.rows import finished_rows, schema


@dataclasses.dataclass(frozen=True)
class NamedSettings:
    """The settings hashes in the rows of a destination.

    Attributes:
        num_rows: for each head, how many rows name each hash.
        columns: all columns that any of the files has.
        highest_term: of all rows; 0 without rows, or if all rows are of 0.1.0.
    """

    num_rows: Mapping[str, Mapping[str, int]]
    columns: frozenset[str]
    highest_term: int


class _OfFile(NamedTuple):
    """What the rows of one file add to ``NamedSettings``."""

    num_rows: dict[str, Counter[str]]
    highest_term: int
    columns: tuple[str, ...]


def read(destination: Destination, heads: Iterable[Head]) -> NamedSettings:
    """Return the hashes that the rows of ``destination`` name for ``heads``.

    Raises:
        DestinationError: a file that cannot be read.
    """
    columns = {head.name: head.settings for head in heads}

    def reduce(table: pa.Table) -> _OfFile:
        hash_counts = {}
        # Counts per file, so that no column has to be held in memory.
        for head, column in columns.items():
            if column in table.column_names:
                value_counts = pc.value_counts(table[column].cast(pa.string()).drop_null()).to_pylist()
                hash_counts[head] = Counter(
                    {value_count["values"]: int(value_count["counts"]) for value_count in value_counts}
                )
        term = pc.max(table["term"].cast(pa.int64())).as_py() if "term" in table.column_names else None
        return _OfFile(hash_counts, term or 0, schema.columns_of_file(table))

    per_file = finished_rows.read_finished(destination.url, [*columns.values(), "term"], reduce).values()
    num_rows: dict[str, Counter[str]] = {head: Counter() for head in columns}
    for file in per_file:
        for head, counts in file.num_rows.items():
            num_rows[head] += counts
    columns_there = frozenset(name for file in per_file for name in file.columns)
    return NamedSettings(num_rows, columns_there, max((file.highest_term for file in per_file), default=0))
