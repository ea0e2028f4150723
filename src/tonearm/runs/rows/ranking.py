"""Decide which row of a track counts, if a destination has several.

A track has several rows if a later run wrote it again, if a run that had lost the lock wrote late, or if somebody
copied a file. The row of the highest term counts; among those the row of the latest run id; among those the last one by
file name and position in the file. So all readers agree, and no clocks are compared.
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

# The columns that ``Ranking.read`` needs.
RANKED = [KEY, "term", "run_id"]


@dataclasses.dataclass(frozen=True)
class RankedRows:
    """The rows of one table, as a ``Ranking`` needs them.

    Attributes:
        keys: int64 [rows].
        ranks: int32 [rows], or one number if all rows have the same; only the ``Ranking`` knows their order.
    """

    keys: NDArray[np.int64]
    ranks: NDArray[np.int32] | np.int32


class Ranking:
    """Decides which rows of some tables count.

    The result of ``read`` takes 8 bytes per row, and 4 more if the table has rows of several runs. ``masks`` takes 16
    more while it runs, or 40 if every key has several rows.
    """

    def __init__(self) -> None:
        # A number for each pair of term and run id, in order of appearance; ``masks`` sorts them once all are known.
        self._numbers: dict[tuple[int, str], int] = {}

    def read(self, table: pa.Table) -> RankedRows:
        """Return what ``masks`` needs from a table with the columns ``RANKED``; files of 0.1.0 have no term."""
        keys = table[KEY].to_numpy()
        runs = table["run_id"].combine_chunks().dictionary_encode(null_encoding="encode")
        run_ids = [name or "" for name in runs.dictionary.to_pylist()]
        if "term" in table.column_names:
            terms = pc.fill_null(table["term"], 0).to_numpy()
        else:
            terms = np.zeros(table.num_rows, np.int64)
        distinct_terms, term_indices = np.unique(terms, return_inverse=True)
        if len(distinct_terms) == len(run_ids) == 1:
            return RankedRows(keys, np.int32(self._number(int(distinct_terms[0]), run_ids[0])))
        # Combine both into one integer, so that one call of ``unique`` finds the pairs that occur.
        pairs, pair_indices = np.unique(term_indices * len(run_ids) + runs.indices.to_numpy(), return_inverse=True)
        ranks = [
            self._number(int(distinct_terms[pair // len(run_ids)]), run_ids[pair % len(run_ids)])
            for pair in pairs.tolist()
        ]
        return RankedRows(keys, np.array(ranks, np.int32)[pair_indices])

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
        # Nearly every key has one row, so only keys that occur twice are ranked.
        sorted_keys = np.sort(keys)
        repeated_keys = sorted_keys[1:][sorted_keys[1:] == sorted_keys[:-1]]
        if not len(repeated_keys):
            return np.split(counts, np.cumsum([len(table.keys) for table in tables])[:-1])
        del sorted_keys
        rows = np.flatnonzero(
            repeated_keys[np.minimum(np.searchsorted(repeated_keys, keys), len(repeated_keys) - 1)] == keys
        )
        keys = keys[rows]
        by_rank = np.empty(len(self._numbers), np.int32)
        by_rank[[self._numbers[pair] for pair in sorted(self._numbers)]] = np.arange(len(self._numbers))
        ranks = np.concatenate([np.broadcast_to(by_rank[table.ranks], len(table.keys)) for table in tables])[rows]
        # ``lexsort`` is stable: among rows of equal key and rank, the last one by file and position comes last.
        order = np.lexsort((ranks, keys))
        keys = keys[order]
        counts[rows] = False
        counts[rows[order[np.append(keys[1:] != keys[:-1], True)]]] = True
        return np.split(counts, np.cumsum([len(table.keys) for table in tables])[:-1])


def among(values: NDArray[Any], known: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which of ``values`` are in ``known``, which is sorted; ``np.isin`` would sort it again in each call."""
    if not len(known):
        return np.zeros(len(values), bool)
    positions = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.asarray(known[positions] == values)
