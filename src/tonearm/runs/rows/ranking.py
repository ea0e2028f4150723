"""Which row of a track counts, where a destination holds several.

A track may have several rows: one that a later run wrote again, one that a displaced writer wrote too late, a file that
somebody copied. The row of the highest term counts, then that of the later run, then the last one by file name and
place in the file: an order that every reader finds alike, and in which no clock takes part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tonearm.runs.places import KEY

# What ``Ranking.read`` needs of a table.
RANKED = [KEY, "term", "run_id"]


@dataclasses.dataclass(frozen=True)
class RankedRows:
    """The rows of one table as a ``Ranking`` knows them.

    Attributes:
        keys: int64 [rows].
        ranks: int32 [rows], or one number where all rows have the same; what they mean is the ranking's own.
    """

    keys: NDArray[np.int64]
    ranks: NDArray[np.int32] | np.int32


class Ranking:
    """Says which rows of some tables count.

    What ``read`` returns has 8 bytes a row, and 4 more where a table has rows of several runs; while ``masks`` is asked
    it is 16 more, and 40 where every key has several rows.
    """

    def __init__(self) -> None:
        # A rank's number, by term and run; their order is known once all are.
        self._numbers: dict[tuple[int, str], int] = {}

    def read(self, table: pa.Table) -> RankedRows:
        """Return what ``masks`` needs of a table with the columns ``RANKED``, of which 0.1.0 lacks the term."""
        keys = table[KEY].to_numpy()
        runs = table["run_id"].combine_chunks().dictionary_encode(null_encoding="encode")
        names = [name or "" for name in runs.dictionary.to_pylist()]
        if "term" in table.column_names:
            terms = pc.fill_null(table["term"], 0).to_numpy()
        else:
            terms = np.zeros(table.num_rows, np.int64)
        different, of_term = np.unique(terms, return_inverse=True)
        if len(different) == len(names) == 1:
            return RankedRows(keys, np.int32(self._number(int(different[0]), names[0])))
        # One number for each pair that the rows have.
        pairs, places = np.unique(of_term * len(names) + runs.indices.to_numpy(), return_inverse=True)
        ranks = [self._number(int(different[pair // len(names)]), names[pair % len(names)]) for pair in pairs.tolist()]
        return RankedRows(keys, np.array(ranks, np.int32)[places])

    def _number(self, term: int, run: str) -> int:
        return self._numbers.setdefault((term, run), len(self._numbers))

    def masks(self, tables: Sequence[RankedRows]) -> list[NDArray[np.bool_]]:
        """Return for each of ``tables`` which of its rows count, bool [rows]: one row for each key in all.

        Args:
            tables: what ``read`` has returned, in the order of their files.
        """
        if not tables:
            return []
        keys = np.concatenate([table.keys for table in tables])
        counts = np.ones(len(keys), bool)
        # Nearly every key has one row; only the others are ranked.
        ordered = np.sort(keys)
        doubled = ordered[1:][ordered[1:] == ordered[:-1]]
        if not len(doubled):
            return np.split(counts, np.cumsum([len(table.keys) for table in tables])[:-1])
        del ordered
        rows = np.flatnonzero(doubled[np.minimum(np.searchsorted(doubled, keys), len(doubled) - 1)] == keys)
        keys = keys[rows]
        by_rank = np.empty(len(self._numbers), np.int32)
        by_rank[[self._numbers[pair] for pair in sorted(self._numbers)]] = np.arange(len(self._numbers))
        ranks = np.concatenate([np.broadcast_to(by_rank[table.ranks], len(table.keys)) for table in tables])[rows]
        # Stable: among rows of one key and rank the last one that was added comes last.
        order = np.lexsort((ranks, keys))
        keys = keys[order]
        counts[rows] = False
        counts[rows[order[np.append(keys[1:] != keys[:-1], True)]]] = True
        return np.split(counts, np.cumsum([len(table.keys) for table in tables])[:-1])


def among(values: NDArray[Any], known: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which ``values`` are among ``known``, which are sorted; ``np.isin`` would sort them per file."""
    if not len(known):
        return np.zeros(len(values), bool)
    places = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.asarray(known[places] == values)
