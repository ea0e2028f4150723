"""Which row of a track counts, where a destination holds several.

A track may have several rows: one that a later run wrote anew, one that a displaced writer wrote too late, a file that
somebody copied. The row of the highest term counts, then that of the later run, then the last one by file name and
place in the file: an order that every reader finds alike, and in which no clock takes part.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

KEY = "track_key"
# What ``Ranking.add`` reads of a table.
RANKED = [KEY, "term", "run_id"]


class Ranking:
    """Takes in tables of rows, in the order of their files, and says which rows count.

    Holds 16 bytes a row until it is asked, and twice that then.
    """

    def __init__(self) -> None:
        self._keys: list[NDArray[np.int64]] = []
        self._ranks: list[NDArray[np.int64]] = []
        # A rank's number, by term and run; their order is known once all are.
        self._numbers: dict[tuple[int, str], int] = {}

    def add(self, table: pa.Table) -> None:
        """Take in the rows of one file: the columns ``RANKED``, of which 0.1.0 lacks the term."""
        self._keys.append(table[KEY].to_numpy())
        runs = table["run_id"].combine_chunks().dictionary_encode(null_encoding="encode")
        names = [name or "" for name in runs.dictionary.to_pylist()]
        rows = runs.indices.to_numpy(zero_copy_only=False)
        if "term" in table.column_names:
            terms = pc.fill_null(table["term"], 0).to_numpy()
        else:
            terms = np.zeros(table.num_rows, np.int64)
        pairs, places = np.unique(np.stack([terms, rows]), axis=1, return_inverse=True)
        found = [
            self._numbers.setdefault((int(term), names[run]), len(self._numbers)) for term, run in pairs.T.tolist()
        ]
        self._ranks.append(np.array(found, np.int64)[places.reshape(-1)])

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return sum(map(len, self._keys))

    @property
    def highest_term(self) -> int:
        """The highest term of any row; 0 where no row has one."""
        return max((term for term, _ in self._numbers), default=0)

    def counting(self) -> list[NDArray[np.bool_]]:
        """Return for each table that was added which of its rows count, bool [rows]: one row a key in all."""
        if not self._keys:
            return []
        keys = np.concatenate(self._keys)
        by_rank = np.empty(len(self._numbers), np.int64)
        by_rank[[self._numbers[pair] for pair in sorted(self._numbers)]] = np.arange(len(self._numbers))
        ranks = by_rank[np.concatenate(self._ranks)]
        # Stable: among rows of one key and rank the last one that was added comes last.
        order = np.lexsort((ranks, keys))
        ordered = keys[order]
        is_last = np.append(ordered[1:] != ordered[:-1], True) if len(ordered) else np.empty(0, bool)
        counts = np.zeros(len(keys), bool)
        counts[order[is_last]] = True
        return np.split(counts, np.cumsum([len(part) for part in self._keys])[:-1])
