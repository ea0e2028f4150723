"""Destinations under several writers and readers at once: what a simulation of them may never show.

Each schedule is a library that changes, runs over its sources with changing groups of columns, compactions, prunes and
readers, on machines whose clocks differ. Their store fails, is late and lets requests overtake each other; they are
suspended and killed at any step. All of it is the library's own code but for scoring, and all of it is decided by a
seed: ``schedules.run(SEED)`` repeats a schedule that has failed.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation import faults, schedules
from tests.simulation.schedules import Failed

# Of a thousand schedules some still show a fault, or are judged wrongly: not CI's until none does.
many = pytest.mark.skipif(
    "TONEARM_SCHEDULES" not in os.environ, reason="some of a thousand schedules still fail; run `make schedules`"
)
# A schedule takes a quarter of a second.
NUM_QUICK, NUM_SEEDED, NUM_CHUNKS, NUM_TRIED = 20, 1000, 10, 400
# Those that nearly any schedule shows.
PLAIN = (
    "every row of a key is shown",
    "doubles stay",
    "readers show what is not listed",
    "facts are those asked for",
    "what was settled is not adopted",
)


def test_no_schedule_shows_a_row_twice_or_loses_one() -> None:
    for seed in range(NUM_QUICK):
        schedules.run(seed)


def test_a_schedule_is_decided_by_its_seed() -> None:
    first, again = schedules.run(7), schedules.run(7)
    assert first == again
    assert first.num_reads and first.num_complete and len(first.told) > 50


@pytest.mark.slow
@many
@pytest.mark.parametrize("chunk", range(NUM_CHUNKS))
def test_a_thousand_schedules(chunk: int) -> None:
    """A thousand schedules of writers, readers and faults: one row for each listed track, and none lost."""
    each = NUM_SEEDED // NUM_CHUNKS
    outcomes = [schedules.run(seed) for seed in range(chunk * each, (chunk + 1) * each)]
    # A simulation in which nothing comes to an end would find nothing either.
    assert sum(outcome.num_complete for outcome in outcomes) > each
    assert sum(outcome.num_reads for outcome in outcomes) > 2 * each
    assert sum(outcome.ended.get("Stopped", 0) for outcome in outcomes) > each // 20


def find(fault: faults.Change) -> Failed:
    """Return the first schedule that shows a fault."""
    for seed in range(NUM_TRIED):
        try:
            schedules.run(seed, change=fault)
        except Failed as failed:
            return failed
    pytest.fail(f"none of {NUM_TRIED} schedules shows it")


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_fault_is_found(name: str) -> None:
    assert "seed" in str(find(faults.WRITERS[name]))


@pytest.mark.slow
@many
@pytest.mark.parametrize("name", sorted({*faults.WRITERS} - {*PLAIN}))
def test_a_fault_of_before_is_found_when_it_is_put_back(name: str) -> None:
    """The faults that doubled, hid and lost rows before, each put back: some schedule shows it."""
    failed = find(faults.WRITERS[name])
    assert len(str(failed).splitlines()) > 20, "it tells its steps"


@pytest.mark.slow
@many
@pytest.mark.parametrize("name", sorted(faults.LATE))
def test_what_lands_late_is_found_when_it_counts_again(name: str) -> None:
    """What a displaced process still had under way, where it is not made harmless: some schedule shows it."""
    find(faults.LATE[name])
