"""By which settings the rows of a destination say that they have their groups, where its facts are gone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from tonearm.heads import Head
from tonearm.runs.destination import Destination
from tonearm.runs.rows import finished_rows, schema


@dataclasses.dataclass(frozen=True)
class NamedSettings:
    """What rows name.

    Attributes:
        num_rows: by head, of each hash how many rows name it.
        columns: all that any of the files have.
        highest_term: of all rows; 0 where there are none, or none of format 2.
    """

    num_rows: Mapping[str, Mapping[str, int]]
    columns: frozenset[str]
    highest_term: int


def read(destination: Destination, heads: Iterable[Head]) -> NamedSettings:
    """Return what the rows of ``destination`` name for ``heads``.

    Raises:
        DestinationError: a file that cannot be read.
    """
    columns = {head.name: head.settings for head in heads}

    def reduce(table: pa.Table) -> tuple[dict[str, Counter[str]], int, tuple[str, ...]]:
        found = {}
        for head, column in columns.items():
            if column in table.column_names:
                pairs = pc.value_counts(table[column].cast(pa.string()).drop_null()).to_pylist()
                found[head] = Counter({pair["values"]: int(pair["counts"]) for pair in pairs})
        term = pc.max(table["term"].cast(pa.int64())).as_py() if "term" in table.column_names else None
        return found, term or 0, schema.columns_of_file(table)

    read = finished_rows.read_finished(destination.url, [*columns.values(), "term"], reduce).values()
    num_rows: dict[str, Counter[str]] = {head: Counter() for head in columns}
    for found, _, _ in read:
        for head, counts in found.items():
            num_rows[head] += counts
    columns_there = frozenset(name for _, _, names in read for name in names)
    return NamedSettings(num_rows, columns_there, max((term for _, term, _ in read), default=0))
