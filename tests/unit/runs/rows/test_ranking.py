"""Which row of a track counts: the highest term, then the later run, then the last file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tonearm.runs.rows.ranking import Ranking, among

ROW = st.tuples(st.integers(1, 5), st.none() | st.integers(1, 4), st.none() | st.sampled_from(["a", "b", "c"]))


def table(rows: list[tuple[int, int | None, str | None]], *, old: bool = False) -> pa.Table:
    keys, terms, runs = zip(*rows, strict=True) if rows else ((), (), ())
    columns = {"track_key": pa.array(keys, pa.int64()), "run_id": pa.array(runs, pa.string())}
    if not old:
        columns["term"] = pa.array(terms, pa.int64())
    return pa.table(columns)


def counted(*tables: pa.Table) -> list[list[bool]]:
    ranking = Ranking()
    return [mask.tolist() for mask in ranking.masks([ranking.read(each) for each in tables])]


def test_the_highest_term_counts_whatever_the_runs_are_called() -> None:
    assert counted(table([(1, 2, "a")]), table([(1, 1, "z")])) == [[True], [False]]
    assert counted(table([(1, 10, "a"), (2, 1, "a")]), table([(1, 9, "z")])) == [[True, True], [False]]


def test_among_equal_terms_the_later_run_counts() -> None:
    assert counted(table([(1, 1, "b"), (1, 1, "a")])) == [[True, False]]
    assert counted(table([(1, None, "20260601T000000-x")], old=True), table([(1, None, "20260101T000000-y")])) == [
        [True],
        [False],
    ]


def test_a_row_of_0_1_0_ranks_below_any_term() -> None:
    assert counted(table([(7, None, "z")], old=True), table([(7, 1, "a")])) == [[False], [True]]


def test_a_copied_file_counts_once() -> None:
    rows = table([(1, 1, "a"), (2, 1, "a")])
    assert counted(rows, rows) == [[False, False], [True, True]]


def test_no_rows_rank_as_no_rows() -> None:
    assert counted() == []
    assert counted(table([])) == [[]]


@given(st.lists(st.lists(ROW, max_size=6), max_size=5))
def test_every_key_has_one_row_and_it_is_the_best(tables: list[list[tuple[int, int | None, str | None]]]) -> None:
    masks = counted(*map(table, tables))
    shown = [
        row for rows, mask in zip(tables, masks, strict=True) for row, counts in zip(rows, mask, strict=True) if counts
    ]
    everything = [row for rows in tables for row in rows]
    assert sorted(key for key, _, _ in shown) == sorted({key for key, _, _ in everything})
    for key, term, run in shown:
        assert (term or 0, run or "") == max(
            (other or 0, name or "") for same, other, name in everything if same == key
        )


def test_a_million_rows_take_no_time_and_little_memory() -> None:
    keys = np.random.default_rng(1).permutation(1_000_000)
    ranking = Ranking()
    tables = [
        ranking.read(pa.table({"track_key": part, "term": np.ones(len(part), np.int64), "run_id": ["r"] * len(part)}))
        for part in np.split(keys, 100)
    ]
    assert sum(mask.sum() for mask in ranking.masks(tables)) == 1_000_000


def test_among_is_membership_in_sorted_keys() -> None:
    keys = np.array([2, 4, 6])
    assert among(np.array([1, 2, 3, 6, 7]), keys).tolist() == [False, True, False, True, False]
    assert among(np.array([1, 2]), np.empty(0, np.int64)).tolist() == [False, False]
    assert among(np.empty(0, np.int64), keys).tolist() == []
