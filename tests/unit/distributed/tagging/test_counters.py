"""The totals of a run add up over its workers, and failures of the store count only in a row."""

from __future__ import annotations

import time

import pytest

from tonearm.distributed.tagging.counters import _Totals


def test_figures_of_workers_are_added_and_peaks_are_not() -> None:
    totals = _Totals()
    totals.add({"num_tracks": 2, "audio_s": 3.0}, {"decode": 1.0}, {"scoring worker": 10}, 0.5)
    totals.add({"num_tracks": 5, "audio_s": 1.5}, {"decode": 2.0}, {"scoring worker": 7}, 0.5)
    counts = totals.read()
    assert (counts.num_tracks, counts.audio_s, counts.busy_s["decode"]) == (7, 4.5, 3.0)
    assert counts.peak_bytes == {"scoring worker": 10}


def test_a_read_that_succeeds_ends_a_row_of_refused_ones() -> None:
    totals = _Totals()
    for _ in range(3):
        totals.add({"num_refused": 1}, {}, {}, 0.1)
    assert totals.read().refused_in_a_row == 3
    totals.add({"num_read": 1}, {}, {}, 0.1)
    assert totals.read().refused_in_a_row == 0
    totals.add({"num_refused": 2}, {}, {}, 0.1)
    assert totals.read().refused_in_a_row == 2


def test_the_span_begins_where_the_first_reported_work_did(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    totals = _Totals()
    assert totals.read().span_s == 0.0
    totals.add({}, {}, {}, 2.0)
    now = 105.0
    totals.add({}, {}, {}, 1.0)
    assert totals.read().span_s == 7.0


def test_scorers_are_handed_out_once() -> None:
    totals = _Totals()
    totals.enlist(b"actor")
    assert totals.take_scorers() == [b"actor"]
    assert totals.take_scorers() == []
